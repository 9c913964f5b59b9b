package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tokend/tokend/token"
)

// ledger is what the daemons have acknowledged.
type ledger struct {
	mu     sync.Mutex
	tokens map[string]*entry // by ID
	wrong  []string
	failed int // changes that were not acknowledged
}

type entry struct {
	secret         string
	revoked, tried bool // acknowledged; tried, and perhaps done
}

// TestNothingAcknowledgedIsLost when any process is killed by SIGKILL, again and again, while
// tokens are made and revoked: each is there, and each is revoked on all nodes, and the trail
// has one entry for each.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{ttl: time.Minute, stale: 10 * time.Minute, killed: true}) // with fsync
	l := &ledger{tokens: map[string]*entry{}}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 6 {
		load.Go(func() {
			for ctx.Err() == nil {
				l.change(context.WithoutCancel(ctx), g)
			}
		})
	}
	kills := map[string]int{}
	for begun := time.Now(); time.Since(begun) < 20*time.Second && !t.Failed(); {
		kills[g.killOne(t)]++
		time.Sleep(rand.N(500 * time.Millisecond))
	}
	stop()
	load.Wait()
	eventually(t, "all well afterwards", func() error { return g.allWell(t) })

	revoked := 0
	for id, e := range l.tokens {
		if e.revoked {
			revoked++
		}
		for i, n := range g.nodes {
			a := askOnce(n.site, "alice", e.secret)
			if e.revoked && a.yes || !e.tried && !a.yes { // of what was tried in vain nobody was told
				t.Errorf("node %d: token %s: revoked %t, and a check says %t %s", i, id, e.revoked, a.yes, a.reason)
			}
		}
	}
	l.compare(t, trail(t, g.nodes[0]))
	for _, w := range l.wrong {
		t.Error(w)
	}
	t.Logf("killed: %v; acknowledged: %d created, %d revoked; %d changes failed", kills, len(l.tokens), revoked, l.failed)
	if len(l.tokens) == 0 || revoked == 0 || l.failed == 0 {
		t.Error("the test has tested nothing")
	}
}

// killOne kills a process at random, and starts it again a little later.
func (g *grid) killOne(t *testing.T) (what string) {
	t.Helper()
	pause := func() { time.Sleep(rand.N(300 * time.Millisecond)) }
	switch i := rand.IntN(len(g.nodes) + 2); i {
	case len(g.nodes):
		killDatabase(t, g)
		pause()
		serveDatabase(t, g)
		return "PostgreSQL"
	case len(g.nodes) + 1:
		killRedis(t, g)
		pause()
		serveRedis(t, g)
		return "Redis"
	default:
		n := g.nodes[i]
		must(t, n.daemon.Kill())
		pause()
		var err error
		n.daemon, err = n.site.Start(t.Context())
		must(t, err)
		return "tokend"
	}
}

// change makes a token, and revokes it or not.
func (l *ledger) change(ctx context.Context, g *grid) {
	n := g.nodes[rand.IntN(len(g.nodes))]
	made, err := n.create(ctx, "alice", "never")
	if err != nil {
		l.fail()
		return
	}
	e := &entry{secret: made.Secret}
	l.mu.Lock()
	l.tokens[made.Token.ID] = e
	l.mu.Unlock()
	for _, n := range g.nodes {
		askOnce(n.site, "alice", e.secret) // so that it is cached
	}
	if rand.IntN(3) == 0 {
		return
	}
	for range 1 + rand.IntN(5) { // as one does whose command fails
		e.tried = true
		if err := g.nodes[rand.IntN(len(g.nodes))].revoke(ctx, made.Token.ID); err == nil {
			e.revoked = true
			break
		}
		l.fail()
	}
	if !e.revoked {
		return
	}
	for i, n := range g.nodes {
		if a := askOnce(n.site, "alice", e.secret); a.yes {
			l.mu.Lock()
			l.wrong = append(l.wrong, fmt.Sprintf("node %d: yes to token %s, %s after it was revoked", i, made.Token.ID, a.took))
			l.mu.Unlock()
		}
	}
}

func (l *ledger) fail() {
	l.mu.Lock()
	l.failed++
	l.mu.Unlock()
	time.Sleep(10 * time.Millisecond) // the socket may be gone
}

// act is an action on a token.
type act struct {
	Action token.Action
	Token  string
}

// trail is how often each act is in the audit trail.
func trail(t *testing.T, n *node) map[act]int {
	t.Helper()
	counts := map[act]int{}
	for before := int64(0); ; {
		var events []struct {
			act
			Number int64
		}
		if err := n.do(t.Context(), "GET", fmt.Sprintf("/api/v1/audit?limit=1000&before=%d", before), nil, &events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			counts[e.act]++
			before = e.Number
		}
		if len(events) == 0 {
			return counts
		}
	}
}

// compare says where the trail is not what was acknowledged.
func (l *ledger) compare(t *testing.T, counts map[act]int) {
	t.Helper()
	for a, n := range counts {
		if n != 1 {
			t.Errorf("the trail has %d entries of %s %s", n, a.Action, a.Token)
		}
	}
	for id, e := range l.tokens {
		if counts[act{token.TokenCreated, id}] == 0 {
			t.Errorf("the trail lacks that %s was created", id)
		}
		if n := counts[act{token.TokenRevoked, id}]; e.revoked && n == 0 || !e.tried && n > 0 {
			t.Errorf("the trail has %d entries that %s was revoked; tried %t, acknowledged %t", n, id, e.tried, e.revoked)
		}
	}
}
