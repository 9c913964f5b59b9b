package postgres_test

import (
	"net/url"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestServerThatTakesOverIsListenedTo: it lacks the last changes, so that the numbers of
// later ones were given before.
func TestServerThatTakesOverIsListenedTo(t *testing.T) {
	primary, err := servers.StartPostgreSQL()
	check(err)
	t.Cleanup(func() { check(primary.Stop()) })
	both := func(standby *servers.PostgreSQL) string {
		return "postgres:///postgres?" + url.Values{
			"host": {primary.Dir() + "," + standby.Dir()}, "port": {"5432,5432"}, "user": {"tokend"}, "target_session_attrs": {"read-write"},
		}.Encode()
	}
	first := open(t, primary.URL("postgres"))
	r := mint(t, first)
	check(first.Close())
	standby, err := primary.Standby()
	check(err)
	t.Cleanup(func() { check(standby.Stop()) })
	check(standby.Kill())

	one, other := open(t, both(standby)), open(t, both(standby))
	heard := told(t, other)
	for range 40 { // more than a sequence gives out ahead of its log
		mint(t, one)
	}
	last := mint(t, one)
	revoke(t, one, token.Selection{ID: last.ID})
	wantTold(t, "before", heard, last.Digest)

	check(primary.Kill())
	check(standby.Serve())
	check(standby.Promote())
	await(t, "the other server", func() bool { return one.Ping(t.Context()) == nil })
	await(t, "the revocation", func() bool {
		_, err := one.Revoke(t.Context(), token.Selection{ID: r.ID}, now(one), token.Event{At: now(one), Action: token.TokenRevoked})
		return err == nil
	})
	wantTold(t, "afterwards", heard, r.Digest)
}

func now(s *postgres.Store) time.Time { return token.Time(s.Now()) }
