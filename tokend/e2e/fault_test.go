package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is a row of the matrix.
type fault struct {
	name    string
	inflict func(t *testing.T, g *grid)
	again   func(t *testing.T, g *grid) // several times while it lasts; nil: nothing
	every   time.Duration               // so often is it done again; 0: ten times a second
	heal    func(t *testing.T, g *grid)

	// through are the nodes through which tokens are revoked while it lasts; another one is
	// revoked just before. No check that begins after that has returned may say yes, on any
	// node, be it cut off from everything: the tombstone is in Redis, or else all that may
	// believe a record have heard of it. Only where no node at all reaches both the database
	// and the Redis that another one, cut off from the database, still believes, might that
	// one say yes for ttl + stale; no row is like that.
	through []int

	hit   []int    // the nodes that say that they are in trouble
	says  string   // what their /readyz says then; empty: ready or degraded
	down  []string // their dependencies that are down then
	grows []string // their metrics that have grown then
	often string   // what their cache has to say then at least once for four hits; empty: it doesn't matter
	logs  string   // what their log has said since it began; empty: it may say anything
	and   *fault   // what other nodes say at the same time; nil: there are none

	// dark are nodes that can ask neither side: there alone, a right token may be
	// "unavailable". That begins after darkAfter, and no record is believed after blindAfter.
	dark                  []int
	darkAfter, blindAfter time.Duration

	lasts time.Duration // at least
}

// The words of /readyz.
const (
	noCache   = "degraded: the cache is not used, in doubt, or full"
	noNews    = "degraded: changes by other daemons are not heard of; the store does not answer, and cached records are believed"
	noStore   = "not ready: the store does not answer"
	cacheFail = `tokend_cache_requests_total{outcome="error",tier="redis"}`
	tampering = `tokend_cache_requests_total{outcome="tampered",tier="redis"}`
	hits      = `tokend_cache_requests_total{outcome="hit",tier="redis"}`
	misses    = `tokend_cache_requests_total{outcome="miss",tier="redis"}`
	tooOld    = `tokend_cache_requests_total{outcome="old",tier="redis"}`
	believed  = `tokend_stale_records_believed_total`
	pending   = `tokend_invalidations_pending`
)

var (
	everyNode = []int{0, 1, 2}
	storeDown = []string{"store", "changes"}
	cacheDown = []string{"cache"}
	allDown   = []string{"store", "changes", "cache"}
)

// TestFaults has three daemons asked all the time, with right and with wrong tokens, while
// what they depend on fails in many ways. Nobody gets in who must not, everybody who may as
// long as the database or the cache can answer, and the daemons say what is wrong.
func TestFaults(t *testing.T) {
	const ttl, stale = 2 * time.Second, time.Minute
	var rows table
	for _, g := range []struct { // one after the other: two at once have Redis seem slow, for want of a processor
		name     string
		settings gridSettings
		faults   []fault
	}{
		{"Redis", gridSettings{ttl: ttl, stale: stale}, redisFaults},
		{"Redis with TLS", gridSettings{ttl: ttl, stale: stale, secure: true}, secureFaults},
		{"PostgreSQL", gridSettings{ttl: ttl, stale: stale}, databaseFaults},
		{"the network", gridSettings{ttl: ttl, stale: stale}, networkFaults},
		{"PostgreSQL for long", gridSettings{ttl: shortTTL, stale: shortStale}, longFaults},
		{"a primary", gridSettings{ttl: ttl, stale: stale, withStandby: true}, failoverFaults},
	} {
		t.Run(g.name, func(t *testing.T) {
			grid := startGrid(t, g.settings)
			traffic, stop := startTraffic(t, grid)
			defer stop()
			for i, f := range g.faults {
				f.run(t, grid, traffic, rows.row(g.name, i), 1)
			}
		})
	}
	t.Log(rows.String())
}

// mostTurns is how often a row is taken.
const mostTurns = 3

// run is done again where a right token was refused, and the row says in which turn it was not:
// for want of a processor Redis may seem slow three times in a row, at the moment when the
// database is away. A wrong yes is never excused, nor is any answer where a standby takes over,
// which it does once.
func (f fault) run(t *testing.T, g *grid, tr *traffic, line *string, turn int) {
	t.Helper()
	eventually(t, f.name+": all well before", func() error { return g.allWell(t) })
	early := tr.addVictim(t) // revoked just before
	victims := make([]*victim, len(f.through))
	for i := range victims {
		victims[i] = tr.addVictim(t)
	}
	before := make([]account, len(g.nodes))
	for i, n := range g.nodes {
		before[i] = n.account(t)
	}

	tr.revoke(t, early, g.nodes[0])
	r := newTally()
	r.dark = f.dark
	began := time.Now()
	if f.dark != nil {
		r.darkFrom, r.blind = began.Add(f.darkAfter), began.Add(f.blindAfter)
	}
	if between := tr.begin(r); between.wrongYes > 0 {
		t.Errorf("before %s: wrong answers, such as\n%s", f.name, strings.Join(between.examples, "\n"))
	}
	f.inflict(t, g)
	repeating := f.repeat(t, g)
	defer repeating() // also where a sign is not seen
	for i, through := range f.through {
		tr.revoke(t, victims[i], g.nodes[through])
	}
	for _, signs := range f.signs() {
		for _, i := range signs.hit {
			eventually(t, fmt.Sprintf("%s: node %d says so", f.name, i), func() error { return signs.shows(t, g.nodes[i], before[i]) })
		}
	}
	time.Sleep(time.Until(began.Add(max(f.lasts, 3*time.Second))))
	during := f.others(t, g)
	if f.hit != nil {
		during, _ = g.nodes[f.hit[0]].readyz(t.Context())
	}
	repeating()
	tr.note(&r.mending)
	f.heal(t, g)
	tr.note(&r.healed)
	first := f.recovery(t, g, tr, r)
	wrongNo := fmt.Sprint(r.wrongNo)
	if turn > 1 {
		wrongNo += fmt.Sprintf(" (turn %d)", turn)
	}
	*line = fmt.Sprintf("| %s | %d | %d | %s | %s | %s | %s |", f.name, r.checks, r.wrongYes, wrongNo, r.slowest.Round(time.Millisecond), strings.TrimSuffix(during, "; the log says more"), first.Round(time.Millisecond))
	t.Log(*line)
	if turn < mostTurns && r.wrongYes == 0 && r.wrongNo > 0 && g.standby == nil {
		t.Logf("%s: once more, because of\n%s", f.name, strings.Join(r.examples, "\n"))
		f.run(t, g, tr, line, turn+1)
		return
	}
	if r.wrongYes+r.wrongNo > 0 || r.checks == 0 {
		t.Errorf("%s: wrong answers, such as\n%s", f.name, strings.Join(r.examples, "\n"))
	}
	if r.slowest > latest-time.Second {
		t.Errorf("%s: a check took %s", f.name, r.slowest)
	}
}

// repeat does what the fault has done again and again, until the function is called that it
// returns.
func (f fault) repeat(t *testing.T, g *grid) (stop func()) {
	if f.again == nil {
		return func() {}
	}
	enough, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			f.again(t, g)
			select {
			case <-enough:
				return
			case <-time.After(cmp.Or(f.every, 100*time.Millisecond)):
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(enough)
		<-ended
	})
}

// account is what a node has said of itself until then.
type account struct {
	metrics map[string]float64
	log     string
}

func (n *node) account(t *testing.T) account {
	t.Helper()
	log, err := os.ReadFile(n.site.Log())
	if err != nil {
		t.Error(err)
	}
	return account{scrape(t, n.metrics), string(log)}
}

// signs are the fault's, and those of the other one at the same time.
func (f fault) signs() []fault {
	if f.and == nil {
		return []fault{f}
	}
	return []fault{f, *f.and}
}

// shows returns nil when the node says what is wrong.
func (f fault) shows(t *testing.T, n *node, before account) error {
	says, err := n.readyz(t.Context())
	if err != nil || !strings.HasPrefix(says, f.says) || f.says == "" && strings.HasPrefix(says, "not ready") {
		return fmt.Errorf("/readyz says %q, %v", says, err) //nolint:errorlint // it may be nil
	}
	now := n.account(t)
	for _, dependency := range f.down {
		if now.metrics[`tokend_up_dependency{dependency="`+dependency+`"}`] != 0 {
			return errors.New(dependency + " is up")
		}
	}
	for _, metric := range f.grows {
		if now.metrics[metric] <= before.metrics[metric] {
			return fmt.Errorf("%s is %v, as before", metric, now.metrics[metric])
		}
	}
	since := func(metric string) float64 { return now.metrics[metric] - before.metrics[metric] }
	if f.often != "" && (since(f.often) == 0 || 4*since(f.often) < since(hits)) {
		return fmt.Errorf("%s has grown by %v, while there were %v hits", f.often, since(f.often), since(hits))
	}
	if !strings.Contains(now.log[len(before.log):], f.logs) {
		return fmt.Errorf("the log does not say %q", f.logs)
	}
	return nil
}

// others are the nodes that are in no trouble, and say so.
func (f fault) others(t *testing.T, g *grid) (says string) {
	for i, n := range g.nodes {
		if slices.ContainsFunc(f.signs(), func(f fault) bool { return slices.Contains(f.hit, i) }) {
			continue
		}
		var err error
		if says, err = n.readyz(t.Context()); err != nil || f.hit != nil && says != "ready" {
			t.Errorf("%s: node %d says %q, %v", f.name, i, says, err)
		}
	}
	return says
}

// recovery waits until all is well again, and returns when every node had answered rightly.
func (f fault) recovery(t *testing.T, g *grid, tr *traffic, r *tally) (first time.Duration) {
	eventually(t, f.name+": right answers", func() error {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		for i := range g.nodes {
			if r.first[i].IsZero() {
				return fmt.Errorf("none by node %d", i)
			}
			first = max(first, r.first[i].Sub(r.healed))
		}
		return nil
	})
	if first > 15*time.Second {
		t.Errorf("%s: the first right answer after %s", f.name, first)
	}
	eventually(t, f.name+": all well afterwards", func() error { return g.allWell(t) })
	time.Sleep(300 * time.Millisecond)
	tr.begin(newTally())
	return first
}

// allWell returns nil when every node is ready and lacks nothing.
func (g *grid) allWell(t *testing.T) error {
	for i, n := range g.nodes {
		if says, err := n.readyz(t.Context()); err != nil || says != "ready" {
			return fmt.Errorf("node %d says %q, %v", i, says, err) //nolint:errorlint // it may be nil
		}
		now := scrape(t, n.metrics)
		for _, dependency := range allDown {
			if now[`tokend_up_dependency{dependency="`+dependency+`"}`] != 1 {
				return fmt.Errorf("node %d: %s is down", i, dependency)
			}
		}
		if now[pending] != 0 {
			return fmt.Errorf("node %d: %v tombstones are pending", i, now[pending])
		}
	}
	return nil
}

// table is the matrix, for docs/faults.md.
type table struct {
	mu    sync.Mutex
	lines []*string
	order []string
}

func (m *table) row(group string, i int) *string {
	m.mu.Lock()
	defer m.mu.Unlock()
	line := new(string)
	m.lines, m.order = append(m.lines, line), append(m.order, fmt.Sprintf("%s %03d", group, i))
	return line
}

func (m *table) String() string {
	at := make([]int, len(m.lines))
	for i := range at {
		at[i] = i
	}
	slices.SortFunc(at, func(a, b int) int { return strings.Compare(m.order[a], m.order[b]) })
	text := "\n| fault | checks | wrong yes | wrong no | slowest answer | /readyz during | first right answer after |\n|---|---|---|---|---|---|---|\n"
	for _, i := range at {
		text += *m.lines[i] + "\n"
	}
	return text
}
