package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/web"
)

func wantVerdicts(t *testing.T, g *grid, made web.Created, want bool) {
	t.Helper()
	for i, n := range g.nodes {
		yes, reason, err := n.check(made.Token.User, made.Secret)
		if err != nil || yes != want {
			t.Errorf("node %d: %v %s %v, want %v", i, yes, reason, err, want)
		}
	}
}

// awaitRefusal waits until each node refuses the token for that reason.
func awaitRefusal(t *testing.T, g *grid, made web.Created, want string) {
	t.Helper()
	for i, n := range g.nodes {
		eventually(t, "the token is "+want, func() error {
			yes, reason, err := n.check(made.Token.User, made.Secret)
			if err == nil && (yes || reason != want) {
				err = fmt.Errorf("node %d: yes %t, %s", i, yes, reason)
			}
			return err
		})
	}
}

// TestNoNodeSaysYesOnceARevokeHasReturned: at once, with a Redis that all share, and also
// when the one that revokes cannot tell it, and the others hear of it late.
func TestNoNodeSaysYesOnceARevokeHasReturned(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{})
	for i := range 20 {
		n := g.nodes[i%len(g.nodes)]
		made := n.mustCreate(t, "alice")
		wantVerdicts(t, g, made, true)
		if err := n.revoke(t.Context(), made.Token.ID); err != nil {
			t.Fatal(err)
		}
		wantVerdicts(t, g, made, false)
	}
	cut := g.nodes[0]
	made, other := cut.mustCreate(t, "alice"), cut.mustCreate(t, "bob")
	wantVerdicts(t, g, made, true)
	wantVerdicts(t, g, other, true)
	cut.toCache.Cut()
	var held atomic.Int64
	for _, n := range g.nodes[1:] {
		n.toStore.Delay(func(fromClient bool, chunk []byte) time.Duration {
			if fromClient || chunk[0] != 'A' {
				return 0
			}
			held.Add(1) // a notification, and what that node asks after it
			return 1500 * time.Millisecond
		})
	}
	if err := cut.revoke(t.Context(), made.Token.ID); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, g, made, false)
	wantVerdicts(t, g, other, true)
	if held.Load() == 0 {
		t.Error("no notification was held back: nothing was shown")
	}
	for _, n := range g.nodes[1:] {
		n.toStore.Delay(nil)
	}
	if text, err := cut.readyz(t.Context()); err != nil || text != "degraded: the cache is not used, in doubt, or full; the log says more" {
		t.Errorf("%q, %v", text, err)
	}
	cut.toCache.Heal()
	cut.waitReady(t)
	wantVerdicts(t, g, made, false)
	wantVerdicts(t, g, other, true)
}

// keepRecord has Redis keep the token's record, so that there are so many, and asks again where a busy
// machine gave up to keep it.
func keepRecord(t *testing.T, g *grid, made web.Created, records int) {
	t.Helper()
	eventually(t, "the records are kept", func() error {
		wantVerdicts(t, g, made, true)
		names, err := g.redis.Exec(t.Context(), "KEYS", "tokend:*")
		if err == nil && len(slices.DeleteFunc(names.([]any), func(name any) bool { return name == "tokend:probe" })) != records {
			err = fmt.Errorf("there are %v", names)
		}
		return err
	})
}

// TestARotationLogsNobodyOut, not even where the store is away behind it.
func TestARotationLogsNobodyOut(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{size: 2})
	before := g.nodes[0].mustCreate(t, "alice")
	keepRecord(t, g, before, 1)
	if out := tokend(t, g.nodes[0].site, "", "cache", "rotate-key"); out != "The cache is sealed with a new key." {
		t.Errorf("it says %q", out)
	}
	after := g.nodes[1].mustCreate(t, "alice")
	wantVerdicts(t, g, after, true)
	for _, n := range g.nodes {
		waitForLog(t, n.site, 0, "keys of the cache are replaced")
	}
	keepRecord(t, g, after, 2)
	for _, n := range g.nodes {
		n.toStore.Cut()
	}
	wantVerdicts(t, g, before, true)
	wantVerdicts(t, g, after, true)
	for _, n := range g.nodes {
		n.toStore.Heal()
		n.waitReady(t)
	}
	if trail := tokend(t, g.nodes[0].site, "", "audit"); !strings.Contains(trail, " cache.rotate") {
		t.Errorf("the trail does not tell of it:\n%s", trail)
	}
	site, _ := running(t)
	if out, err := site.Run(t.Context(), "", "cache", "rotate-key"); err == nil || !strings.Contains(err.Error(), "there is no key to rotate") {
		t.Errorf("without Redis: %q %v", out, err)
	}
}
