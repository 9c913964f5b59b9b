package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"tokend/tokend/web"
)

// TestWhatRedisWasNeverToldIsKnownAfterTheStart: no daemon can reach Redis when tokens are
// revoked, and all are killed before they can. Redis still holds the records from before.
func TestWhatRedisWasNeverToldIsKnownAfterTheStart(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{killed: true})
	asked, unasked, other := g.nodes[0].mustCreate(t, "alice"), g.nodes[0].mustCreate(t, "alice"), g.nodes[0].mustCreate(t, "bob")
	eventually(t, "all are in Redis", func() error {
		for _, made := range []web.Created{asked, unasked, other} { // again: a fill may be late, and is no duty
			wantVerdicts(t, g, made, true)
		}
		if held := g.held(t); len(held) != 3 {
			return fmt.Errorf("it holds %d", len(held))
		}
		return nil
	})
	for _, n := range g.nodes {
		n.toCache.Cut()
	}
	held := g.held(t)
	must(t, g.nodes[0].revoke(t.Context(), asked.Token.ID))
	must(t, g.nodes[0].revoke(t.Context(), unasked.Token.ID))
	for _, n := range g.nodes {
		must(t, n.daemon.Kill())
	}
	if got := g.held(t); !cmp.Equal(got, held) {
		t.Fatalf("Redis holds %d entries, and held %d, or has been told of a change", len(got), len(held))
	}
	for _, n := range g.nodes {
		n.toCache.Heal()
	}
	for i, n := range g.nodes {
		var err error
		if n.daemon, err = n.site.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if yes, reason, err := n.check("alice", asked.Secret); yes || err != nil {
			t.Errorf("node %d at once: %v %s %v", i, yes, reason, err)
		}
	}
	for _, n := range g.nodes {
		n.waitReady(t)
	}
	// Of this one nobody has asked the database, which would fill Redis with what is right.
	wantVerdicts(t, g, unasked, false)
	wantVerdicts(t, g, asked, false)
	wantVerdicts(t, g, other, true)
}

// held is what Redis holds of tokens, by name.
func (g *grid) held(t *testing.T) map[string]string {
	t.Helper()
	names, err := g.redis.Exec(t.Context(), "KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]string{}
	for _, name := range names.([]any) {
		if strings.HasSuffix(name.(string), "probe") { // by which the daemons find out whether it works
			continue
		}
		value, err := g.redis.Exec(t.Context(), "GET", name)
		if errors.Is(err, redis.Nil) { // it has expired
			continue
		}
		must(t, err)
		entries[name.(string)] = value.(string)
	}
	return entries
}
