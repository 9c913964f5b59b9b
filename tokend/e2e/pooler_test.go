package e2e

import (
	"testing"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
)

// TestDaemonsBehindAPoolerHearOfEachOther: it has fewer connections than they.
func TestDaemonsBehindAPoolerHearOfEachOther(t *testing.T) {
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	database, err := server.NewDatabase(t.Context(), "template0")
	if err != nil {
		t.Fatal(err)
	}
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pooler.Stop(); err != nil {
			t.Error(err)
		}
	})
	sites := []*rig.Site{newSite(t), newSite(t)}
	for _, site := range sites {
		reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), pooler.URL(database)+"\"\ndirect_url = \""+server.URL(database))
		start(t, site)
	}
	user := "alice"
	good, other := create(t, sites[0], user, "never"), create(t, sites[1], user, "never")
	for _, site := range sites {
		for _, secret := range []string{good, other} {
			wantYes(t, agent{user: &user, password: secret}.run(t, site))
		}
	}
	tokend(t, sites[0], good, "token", "revoke", "--secret", "-")
	wantNo(t, agent{user: &user, password: good}.run(t, sites[0]))
	waitForNo(t, sites, good)
	for _, site := range sites {
		wantYes(t, agent{user: &user, password: other}.run(t, site))
	}
	tokend(t, sites[1], "", "user", "disable", user)
	waitForNo(t, sites, other)
}
