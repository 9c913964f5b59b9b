package e2e

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
)

// TestNoNodeSaysYesBehindARevokeWhileRedisFailsOver, though each hears of the new primary at its
// own time: the Sentinel that each asks first is another.
func TestNoNodeSaysYesBehindARevokeWhileRedisFailsOver(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{sentinel: true})
	for _, n := range g.nodes {
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
	before, err := g.set.Primary(t.Context())
	must(t, err)
	for range 2 {
		time.Sleep(time.Second)
		var now *servers.Redis
		var asked time.Time
		eventually(t, "another server is the primary", func() (err error) {
			if time.Since(asked) > 5*time.Second { // one that takes long is given up
				asked = time.Now()
				_ = g.set.Failover(t.Context())
			}
			if now, err = g.set.Primary(t.Context()); err == nil && now == before {
				err = errors.New("it is the one before")
			}
			return err
		})
		before = now
		time.Sleep(3 * time.Second)
	}
	over.Store(true)
	all.Wait()
	t.Logf("%d revoked", revoked.Load())
	for _, n := range g.nodes {
		n.waitReady(t)
	}
}
