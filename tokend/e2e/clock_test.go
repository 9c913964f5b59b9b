package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestTheServersClockDecides what has expired, and not that of the daemons' machines.
func TestTheServersClockDecides(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{size: 2, ttl: time.Hour})
	turn := func(by string) {
		t.Helper()
		must(t, g.database.Exec(t.Context(), `CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS $$ SELECT pg_catalog.clock_timestamp() + interval '`+by+`' $$`))
	}
	turn("0")
	must(t, g.database.Exec(t.Context(), `ALTER DATABASE postgres SET search_path = public, pg_catalog`))
	must(t, g.database.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokend'`))
	for _, n := range g.nodes {
		n.waitReady(t)
	}
	made, err := g.nodes[0].create(t.Context(), "alice", "2d")
	must(t, err)
	wantVerdicts(t, g, made, true)

	turn("3 days")
	awaitRefusal(t, g, made, "expired")
	later, err := g.nodes[1].create(t.Context(), "alice", "2d")
	must(t, err)
	if left := time.Until(*later.Token.Expires); left < 4*24*time.Hour {
		t.Errorf("a token for 2 days from then on ends in %s", left)
	}
	wantVerdicts(t, g, later, true)

	turn("0")
	for _, n := range g.nodes {
		eventually(t, "it is good again", func() error {
			yes, reason, err := n.check("alice", made.Secret)
			if err == nil && !yes {
				err = fmt.Errorf("no: %s", reason)
			}
			return err
		})
	}
}
