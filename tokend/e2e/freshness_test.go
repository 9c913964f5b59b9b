package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
)

// TestWhatIsDeletedIsNotBelievedWhileTheSiteIsAway, though nobody has asked for it between: it was read again.
func TestWhatIsDeletedIsNotBelievedWhileTheSiteIsAway(t *testing.T) {
	t.Parallel()
	server, err := servers.StartPostgreSQL("fsync=off")
	must(t, err)
	stopAtEnd(t, server.Stop)
	db := knoxtest.New(t, server, "sodar-1.3")
	site := newSite(t, "[knox]", fmt.Sprintf("url = %q", db.URL()), `refresh = "1s"`)
	start(t, site)
	kept, gone := db.Mint(db.User("alice")), db.Mint(db.User("bob"))
	if !opens(t, site, "alice", kept.Reveal()) || !opens(t, site, "bob", gone.Reveal()) {
		t.Fatal("they do not open iRODS")
	}
	db.Exec(`DELETE FROM tokens_sodarauthtoken WHERE digest = $1`, db.Digest(gone).String())
	time.Sleep(3 * time.Second)
	must(t, server.Kill())
	if !opens(t, site, "alice", kept.Reveal()) || opens(t, site, "bob", gone.Reveal()) {
		t.Error("what is believed is not what was there at last")
	}
	must(t, server.Serve("fsync=off")) // for what ends with the test
}

// TestWhatRedisHasOfAnotherSiteOpensNothing once [knox] url leads elsewhere.
func TestWhatRedisHasOfAnotherSiteOpensNothing(t *testing.T) {
	t.Parallel()
	server, err := postgreSQL()
	must(t, err)
	redis, err := servers.StartRedis()
	must(t, err)
	stopAtEnd(t, redis.Stop)
	own, err := server.NewDatabase(t.Context(), "template0")
	must(t, err)
	staging, production := knoxtest.New(t, server, "sodar-1.3"), knoxtest.New(t, server, "sodar-1.3")
	site := newSite(t, "[knox]", fmt.Sprintf("url = %q", staging.URL()), "[cache]", fmt.Sprintf("url = %q", "redis://"+redis.Addr()))
	reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), server.URL(own))
	daemon, err := site.Start(t.Context())
	must(t, err)
	secret := staging.Mint(staging.User("alice")).Reveal()
	usesRedis := func() error {
		if _, said := ready(t, site); said != "ready" {
			return errors.New(said)
		}
		return nil
	}
	eventually(t, "Redis is used", usesRedis)
	if !opens(t, site, "alice", secret) {
		t.Errorf("it does not open iRODS: %s", lastReason(t, site))
	}
	time.Sleep(500 * time.Millisecond) // it is kept by then
	must(t, daemon.Stop())
	reconfigure(t, site, staging.URL(), production.URL())
	start(t, site)
	eventually(t, "Redis is used", usesRedis)
	if opens(t, site, "alice", secret) {
		t.Error("another site's token opens iRODS")
	}
}

// TestWhatSODARTakesAwayIsRefusedOnEveryNodeInTime: the daemons share a Redis, each believes what any of them has
// read, and all tokens are in use on all of them.
func TestWhatSODARTakesAwayIsRefusedOnEveryNodeInTime(t *testing.T) {
	t.Parallel()
	const refresh = 2 * time.Second
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	redis, err := servers.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, redis.Stop)
	own, err := server.NewDatabase(t.Context(), "template0")
	if err != nil {
		t.Fatal(err)
	}
	db := knoxtest.New(t, server, "sodar-1.3")
	nodes := make([]*rig.Site, 2)
	for i := range nodes {
		nodes[i] = newSite(t, "[knox]", fmt.Sprintf("url = %q", db.URL()), fmt.Sprintf("refresh = %q", refresh),
			"[cache]", fmt.Sprintf("url = %q", "redis://"+redis.Addr()))
		reconfigure(t, nodes[i], "sqlite:"+nodes[i].Path("state/tokend.db"), server.URL(own))
		start(t, nodes[i])
	}
	kept, taken, changes := db.Mint(db.User("carol")), map[string]token.Knox{}, map[string]string{
		"deleted":     `DELETE FROM tokens_sodarauthtoken WHERE digest = $1`,
		"expired":     `UPDATE tokens_sodarauthtoken SET expiry = now() - interval '1 microsecond' WHERE digest = $1`,
		"deactivated": `UPDATE users_user SET is_active = false WHERE id = (SELECT user_id FROM tokens_sodarauthtoken WHERE digest = $1)`,
		"renamed":     `UPDATE users_user SET username = 'another' WHERE id = (SELECT user_id FROM tokens_sodarauthtoken WHERE digest = $1)`,
	}
	for user := range changes {
		taken[user] = db.Mint(db.User(user))
	}
	use := func() (all bool) {
		all = true
		for _, site := range nodes {
			for user, secret := range taken {
				all = opens(t, site, user, secret.Reveal()) && all
			}
			if !opens(t, site, "carol", kept.Reveal()) {
				t.Fatal("a good token is refused")
			}
		}
		return all
	}
	for begun := time.Now(); time.Since(begun) < refresh; {
		if !use() {
			t.Fatal("a token is refused that is good yet")
		}
	}
	for user, sql := range changes {
		db.Exec(sql, db.Digest(taken[user]).String())
	}
	for changed := time.Now(); time.Since(changed) < refresh; {
		use()
	}
	for begun := time.Now(); time.Since(begun) < 2*refresh; {
		for i, site := range nodes {
			for user, secret := range taken {
				if opens(t, site, user, secret.Reveal()) {
					t.Fatalf("node %d lets in whose token or account is %s", i, user)
				}
			}
			if !opens(t, site, "carol", kept.Reveal()) {
				t.Fatal("a good token is refused")
			}
		}
	}
}
