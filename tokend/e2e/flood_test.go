package e2e

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

// TestFloodOfWrongTokensDoesNotKeepAliceOut: fifty connections ask without a pause for her,
// with what is no token and with unknown ones. She is neither locked out nor made to wait
// for twice as long. Her times with and without the flood are taken in turns. The third of
// the best counts: whatever else the machine does slows her down now and then, a flood
// most of the time.
func TestFloodOfWrongTokensDoesNotKeepAliceOut(t *testing.T) {
	g := startGrid(t, gridSettings{ttl: time.Minute, stale: time.Minute, size: 1})
	site := g.nodes[0].site
	alice, err := g.nodes[0].create(t.Context(), "alice", "never")
	if err != nil {
		t.Fatal(err)
	}
	const turns = 6
	floods := []struct {
		name   string
		secret func() string
	}{
		{"unknown tokens", func() string { return token.Mint().Reveal() }},
		{"no tokens", func() string { return rig.Typo(alice.Secret) }},
	}
	for _, f := range floods {
		var asked int64
		var ratios []float64
		for range turns {
			before := median(timesOf(t, site, alice.Secret))
			stop := flood(t, site, f.secret, &asked)
			during := median(timesOf(t, site, alice.Secret))
			stop()
			ratio := float64(during) / float64(before)
			ratios = append(ratios, ratio)
			t.Logf("%s: alice's median is %s, and %s in the flood, %.1f times as long; so far %d of them", f.name, before, during, ratio, asked)
		}
		slices.Sort(ratios)
		if ratios[2] > 2 {
			t.Errorf("%s: a flood slows alice down %.1f times", f.name, ratios[2])
		}
		if asked == 0 {
			t.Errorf("%s: there was no flood", f.name)
		}
	}
}

// timesOf is how long each of alice's checks takes, all of which must be a yes.
func timesOf(t *testing.T, site *rig.Site, secret string) (times []time.Duration) {
	t.Helper()
	for range 200 {
		a := askOnce(site, "alice", secret)
		if !a.yes {
			t.Errorf("alice is kept out: %+v", a)
		}
		times = append(times, a.took)
		time.Sleep(2 * time.Millisecond)
	}
	return times
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// flood asks until the function is called that it returns, and counts.
func flood(t *testing.T, site *rig.Site, secret func() string, asked *int64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for ctx.Err() == nil {
				if a := askOnce(site, "alice", secret()); a.yes {
					t.Error("a wrong token is good")
				}
				atomic.AddInt64(asked, 1)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}
