package e2e

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/web"
)

// TestNoNodeSaysYesBehindARevokeWhileRedisFailsOver, though each hears of the new primary at its
// own time.
func TestNoNodeSaysYesBehindARevokeWhileRedisFailsOver(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{sentinel: true})
	for i, n := range g.nodes {
		for _, p := range n.toSentinels {
			p.Delay(func(bool, []byte) time.Duration { return time.Duration(i) * 20 * time.Millisecond })
		}
		n.waitReady(t)
	}
	var over atomic.Bool
	var all sync.WaitGroup
	var revoked atomic.Int64
	for i, n := range g.nodes {
		all.Go(func() {
			for !over.Load() {
				made, err := n.create(t.Context(), "alice", "never")
				if err != nil {
					t.Error(err)
					return
				}
				for _, other := range g.nodes {
					if yes, reason, err := other.check("alice", made.Secret); err != nil || !yes {
						t.Errorf("before the revoke: %s %v", reason, err)
					}
				}
				if err := n.revoke(t.Context(), made.Token.ID); err != nil {
					t.Error(err)
					return
				}
				for j, other := range g.nodes {
					if yes, _, err := other.check("alice", made.Secret); err != nil || yes {
						t.Errorf("node %d says yes %t, %v behind a revoke by node %d", j, yes, err, i)
					}
				}
				revoked.Add(1)
			}
		})
	}
	for range 2 {
		time.Sleep(time.Second)
		before := revoked.Load()
		g.failOver(t)
		time.Sleep(3 * time.Second)
		if revoked.Load() == before {
			t.Error("nothing was revoked while another server became the primary: nothing was shown")
		}
	}
	over.Store(true)
	all.Wait()
	t.Logf("%d revoked", revoked.Load())
	for _, n := range g.nodes {
		n.waitReady(t)
	}
}

// failOver has another server become the primary, and returns when all Sentinels say so.
func (g *grid) failOver(t *testing.T) {
	t.Helper()
	if _, err := g.set.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestARevokeHoldsWhileDaemonsUseDifferentPrimaries: the one that revokes hears of the new primary
// some hundred milliseconds after the other one, which hears of the revoke from PostgreSQL two seconds late.
func TestARevokeHoldsWhileDaemonsUseDifferentPrimaries(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{sentinel: true, size: 2})
	late, ahead := g.nodes[0], g.nodes[1]
	for _, p := range late.toSentinels {
		p.Delay(func(bool, []byte) time.Duration { return 50 * time.Millisecond })
	}
	ahead.toStore.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if !fromClient && bytes.HasPrefix(chunk, []byte("A")) { // a notification
			return 2 * time.Second
		}
		return 0
	})
	for round := range 2 {
		late.waitReady(t)
		ahead.waitReady(t)
		made := make([]web.Created, 500) // for half a minute: the Sentinels may contest the election
		for i := range made {
			made[i] = late.mustCreate(t, "alice")
		}
		for range 2 { // at last when nothing is doubted any more
			time.Sleep(3 * time.Second)
			for _, c := range made {
				if yes, reason, err := ahead.check("alice", c.Secret); err != nil || !yes {
					t.Errorf("before the revoke: %s %v", reason, err)
				}
			}
		}
		var all sync.WaitGroup
		var over, changed atomic.Bool
		var revoked, believed atomic.Int64
		for w := range 8 {
			all.Go(func() {
				for i := w; !over.Load(); i++ {
					time.Sleep(time.Millisecond)
					if n := revoked.Load(); n > 0 {
						last := made[n-1-int64(i)%min(n, 40)]
						if yes, _, err := ahead.check("alice", last.Secret); err != nil || yes {
							believed.Add(1)
						}
					}
				}
			})
		}
		all.Go(func() {
			for _, c := range made {
				if over.Load() {
					break
				}
				if err := late.revoke(t.Context(), c.Token.ID); err != nil {
					t.Error(err)
				}
				revoked.Add(1)
				time.Sleep(40 * time.Millisecond)
			}
			if !changed.Load() {
				t.Error("nothing was revoked while another server became the primary: nothing was shown")
			}
		})
		g.failOver(t)
		changed.Store(true)
		time.Sleep(3 * time.Second)
		over.Store(true)
		all.Wait()
		t.Logf("%d revoked", revoked.Load())
		if n := believed.Load(); n > 0 {
			t.Errorf("round %d: %d times yes behind a revoke", round, n)
		}
	}
}
