package e2e

import (
	"errors"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
)

// postgreSQL is one server for all tests, started for the first that asks.
var postgreSQL = sync.OnceValues(func() (*servers.PostgreSQL, error) {
	server, err := servers.StartPostgreSQL("max_connections=500", "fsync=off")
	if err == nil {
		toStop(server.Stop)
	}
	return server, err
})

// stops are those of the servers that all tests share.
var stops struct {
	sync.Mutex
	all []func() error
}

func toStop(stop func() error) {
	stops.Lock()
	defer stops.Unlock()
	stops.all = append(stops.all, stop)
}

func stopServers() error {
	var errs []error
	for _, stop := range stops.all {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// fleet is so many daemons over one database, which run.
func fleet(t *testing.T, size int) (sites []*rig.Site, server *servers.PostgreSQL, database string) {
	t.Helper()
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	database, err = server.NewDatabase(t.Context(), "template0")
	if err != nil {
		t.Fatal(err)
	}
	sites = make([]*rig.Site, size)
	for i := range sites {
		sites[i] = newSite(t)
		reconfigure(t, sites[i], "sqlite:"+sites[i].Path("state/tokend.db"), server.URL(database))
		start(t, sites[i])
	}
	return sites, server, database
}

// TestWhatOneDaemonChangesTheOthersAnswerBy: the records are in their caches, where they
// would be believed for a minute.
func TestWhatOneDaemonChangesTheOthersAnswerBy(t *testing.T) {
	sites, _, _ := fleet(t, 3)
	user := "alice"
	good := create(t, sites[0], user, "never")
	other := create(t, sites[1], user, "never")
	everywhere := func(secret string, want func(*testing.T, result)) {
		t.Helper()
		for _, site := range sites {
			want(t, agent{user: &user, password: secret}.run(t, site))
		}
	}
	everywhere(good, wantYes)
	everywhere(other, wantYes)
	tokend(t, sites[2], good, "token", "revoke", "--secret", "-")
	waitForNo(t, sites, good)
	everywhere(other, wantYes)
	tokend(t, sites[0], "", "user", "disable", user)
	waitForNo(t, sites, other)
	tokend(t, sites[1], "", "user", "enable", user)
	everywhere(good, wantNo)
	for _, site := range sites {
		if trail := tokend(t, site, "", "audit", "--json"); trail != tokend(t, sites[0], "", "audit", "--json") {
			t.Errorf("the trail differs: %s", trail)
		}
	}
}

// TestWhoHearsOfNoChangesAsksTheDatabase: the connections over which they are told come
// back to nobody, and those for logins are there.
func TestWhoHearsOfNoChangesAsksTheDatabase(t *testing.T) {
	sites, server, database := fleet(t, 2)
	user := "alice"
	good := create(t, sites[0], user, "never")
	for _, site := range sites {
		wantYes(t, agent{user: &user, password: good}.run(t, site))
	}
	if err := server.Exec(t.Context(), `ALTER DATABASE `+database+` ALLOW_CONNECTIONS false`); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = '`+database+`' AND query ~ '^LISTEN|clock_timestamp|FROM events'`); err != nil {
		t.Fatal(err)
	}
	for _, site := range sites {
		waitForLog(t, site, 0, "changes by other daemons are not heard of")
	}
	tokend(t, sites[0], good, "token", "revoke", "--secret", "-")
	waitForNo(t, sites, good)
	if err := server.Exec(t.Context(), `ALTER DATABASE `+database+` ALLOW_CONNECTIONS true`); err != nil {
		t.Fatal(err)
	}
	for _, site := range sites {
		waitForLog(t, site, 0, "changes by other daemons are heard of again")
	}
}

// waitForNo waits until all refuse alice's token.
func waitForNo(t *testing.T, sites []*rig.Site, secret string) {
	t.Helper()
	for _, site := range sites {
		for begun := time.Now(); ; {
			answer, err := site.AskAsIRODS(t.Context(), "alice", secret)
			if err != nil {
				t.Fatal(err)
			}
			if !answer.OK() {
				break
			}
			if time.Since(begun) > 20*time.Second { // and long before the records are too old
				t.Fatal("a token is good whose rights were taken away")
			}
		}
	}
}
