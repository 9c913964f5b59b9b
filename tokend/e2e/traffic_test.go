package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"tokend/pamhelper/wire"
	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

// answer is that of a check.
type answer struct {
	began  time.Time
	took   time.Duration
	yes    bool
	reason string // or why there is no answer
}

// latest is how long a check waits for its answer: longer than pamhelper, because the
// machine may be slow.
const latest = 5 * time.Second

// askOnce asks as pamhelper does, but for its pauses, by Go's runtime.
func askOnce(site *rig.Site, user, secret string) (a answer) {
	a.began = time.Now()
	defer func() { a.took = time.Since(a.began) }()
	for time.Since(a.began) < latest {
		var err error
		if a.yes, a.reason, err = converse(site, user, secret, a.began.Add(latest)); err != nil {
			return answer{began: a.began, reason: err.Error()}
		}
		if a.reason != wire.Busy {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return a
}

func converse(site *rig.Site, user, secret string, until time.Time) (yes bool, reason string, err error) {
	conn, err := net.Dial("unix", site.AuthSocket())
	if err != nil {
		return false, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(until); err != nil {
		return false, "", err
	}
	request := wire.Request{Login: []byte(user), Secret: []byte(secret)}
	if _, err := request.WriteTo(conn); err != nil {
		return false, "", err
	}
	return wire.ReadReply(conn)
}

// traffic is checks all the time, on every node, and what was wrong with their answers.
type traffic struct {
	nodes []*node
	right []string // alice's, good ones
	wrong []struct{ user, secret string }

	mu      sync.Mutex
	victims []*victim
	row     *tally
}

// victim is a token that is revoked sooner or later.
type victim struct {
	web.Created
	gone time.Time // when it had been
}

// tally is what was answered while a fault lasted, and until all was well again.
type tally struct {
	checks, wrongYes, wrongNo int
	slowest                   time.Duration
	examples                  []string

	// dark are nodes that can answer nothing, from then on and until they have answered
	// rightly once after the fault. Nothing is believed there from blind on.
	dark     []int
	darkFrom time.Time
	blind    time.Time
	mending  time.Time         // when the fault began to end; zero: it lasts
	healed   time.Time         // when it had ended; zero: it hasn't
	first    map[int]time.Time // by node, when a check that began after it had its right answer
}

func newTally() *tally { return &tally{first: map[int]time.Time{}} }

// startTraffic makes the tokens and asks, until the function that it returns is called.
func startTraffic(t *testing.T, g *grid) (tr *traffic, stop func()) {
	t.Helper()
	tr = &traffic{nodes: g.nodes, row: newTally()}
	create := func(user, life string) web.Created {
		m, err := g.nodes[0].create(t.Context(), user, life)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for range 4 {
		tr.right = append(tr.right, create("alice", "never").Secret)
	}
	revoked := create("alice", "never")
	tr.wrong = []struct{ user, secret string }{
		{"alice", create("alice", "1s").Secret}, {"alice", create("bob", "never").Secret}, {"carol", create("carol", "never").Secret},
		{"alice", revoked.Secret}, {"bob", tr.right[0]}, {"alice", "password"}, {"alice", ""}, // a new unknown one
	}
	for _, err := range []error{
		g.nodes[0].revoke(t.Context(), revoked.Token.ID),
		g.nodes[0].do(t.Context(), "PUT", "/api/v1/users/carol", map[string]bool{"disabled": true}, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range tr.wrong[:6] { // above all the one of a second
		eventually(t, "a wrong token is refused", func() error {
			if a := askOnce(g.nodes[0].site, w.user, w.secret); a.yes {
				return fmt.Errorf("%+v", a)
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i, n := range g.nodes {
		all.Go(func() { tr.askRight(ctx, i, n) })
		all.Go(func() { tr.askWrong(ctx, i, n) })
		all.Go(func() { tr.askVictims(ctx, i, n) })
	}
	return tr, func() {
		cancel()
		all.Wait()
	}
}

func (tr *traffic) askRight(ctx context.Context, i int, n *node) {
	for k := 0; ctx.Err() == nil; k++ {
		tr.judgeRight(i, askOnce(n.site, "alice", tr.right[k%len(tr.right)]))
		time.Sleep(25 * time.Millisecond)
	}
}

func (tr *traffic) askWrong(ctx context.Context, i int, n *node) {
	for k := 0; ctx.Err() == nil; k++ {
		w := tr.wrong[k%len(tr.wrong)]
		if w.secret == "" {
			w.secret = token.Mint().Reveal()
		}
		tr.judge(i, "wrong token "+fmt.Sprint(k%len(tr.wrong)), askOnce(n.site, w.user, w.secret), true)
		time.Sleep(50 * time.Millisecond)
	}
}

func (tr *traffic) askVictims(ctx context.Context, i int, n *node) {
	for k := 0; ctx.Err() == nil; k++ {
		tr.mu.Lock()
		if len(tr.victims) == 0 {
			tr.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		v := tr.victims[len(tr.victims)-1-k%min(3, len(tr.victims))] // the newest
		tr.mu.Unlock()
		a := askOnce(n.site, "alice", v.Secret)
		tr.mu.Lock()
		gone := !v.gone.IsZero() && a.began.After(v.gone)
		tr.mu.Unlock()
		tr.judge(i, "revoked meanwhile", a, gone)
		time.Sleep(25 * time.Millisecond)
	}
}

// judge counts a check whose yes may be wrong.
func (tr *traffic) judge(i int, what string, a answer, mustBeNo bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.row.count(a)
	if a.yes && mustBeNo {
		tr.row.wrongYes++
		tr.row.example("wrong yes", what, i, a)
	}
}

// judgeRight counts a check of a right token. A no is wrong, but where the node is dark.
func (tr *traffic) judgeRight(i int, a answer) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	r := tr.row
	r.count(a)
	ended := a.began.Add(a.took)
	inDark := slices.Contains(r.dark, i) && ended.After(r.darkFrom) && (r.first[i].IsZero() || a.began.Before(r.first[i]))
	switch {
	case a.yes && !r.healed.IsZero() && r.first[i].IsZero() && a.began.After(r.healed):
		r.first[i] = ended
	case a.yes && inDark && r.mending.IsZero() && !r.blind.IsZero() && a.began.After(r.blind):
		r.wrongYes++
		r.example("wrong yes", "too old", i, a)
	case !a.yes && (!inDark || a.reason != "unavailable"):
		r.wrongNo++
		r.example("wrong no", "right token", i, a)
	}
}

func (r *tally) count(a answer) {
	r.checks++
	r.slowest = max(r.slowest, a.took)
}

func (r *tally) example(verdict, what string, i int, a answer) {
	if len(r.examples) < 5 {
		r.examples = append(r.examples, fmt.Sprintf("%s: %s, node %d, began %s, took %s, reason %q", verdict, what, i, a.began.Format("05.000"), a.took, a.reason))
	}
}

// addVictim makes a token, whose record every node has seen.
func (tr *traffic) addVictim(t *testing.T) *victim {
	t.Helper()
	m, err := tr.nodes[0].create(t.Context(), "alice", "never")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range tr.nodes {
		if a := askOnce(n.site, "alice", m.Secret); !a.yes {
			t.Fatalf("a new token: %+v", a)
		}
	}
	v := &victim{Created: m}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.victims = append(tr.victims, v)
	return v
}

// revoke ends it through a node, and notes when that had been done. What is in trouble is
// asked again.
func (tr *traffic) revoke(t *testing.T, v *victim, through *node) {
	t.Helper()
	eventually(t, "revoke a token", func() error { return through.revoke(t.Context(), v.Token.ID) })
	tr.note(&v.gone)
}

// note puts the time into something that the checks are judged by.
func (tr *traffic) note(at *time.Time) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	*at = time.Now()
}

// begin has what comes counted for another row.
func (tr *traffic) begin(r *tally) (before *tally) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	before, tr.row = tr.row, r
	return before
}
