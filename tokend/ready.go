package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const (
	// readyTimeout is how long the store may take to say that it is there.
	readyTimeout = 2 * time.Second
	// lookEvery is how often it is asked when nobody wants to know.
	lookEvery = 2 * time.Second
	// remindEvery is how often the log says again what is not well.
	remindEvery = 5 * time.Minute
)

// readiness is what keeps logins, or changes, from being as they should be.
type readiness struct {
	down []string      // why logins fail; for strangers
	weak []string      // why they may fail soon, or take longer
	errs []error       // for the log
	left time.Duration // how long cached records are believed in the store's place; 0: not
}

// state is "ready", "degraded" or "not ready".
func (r readiness) state() string {
	switch {
	case r.down != nil:
		return "not ready"
	case r.weak != nil:
		return "degraded"
	}
	return "ready"
}

// String is what /readyz says: the state, and why.
func (r readiness) String() string {
	if r.errs == nil {
		return r.state()
	}
	why := r.why()
	if r.left > 0 { // the store comes last
		why += fmt.Sprintf(", and cached records are believed for %s more", r.left.Round(time.Second))
	}
	return why + "; the log says more"
}

// why is the state and what it comes from.
func (r readiness) why() string {
	return r.state() + ": " + strings.Join(slices.Concat(r.down, r.weak), "; ")
}

// status is 200 as long as logins can be answered.
func (r readiness) status() int {
	if r.down != nil {
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

const elsewhere = "the pooler leads to another database, where nothing is asked"

// readiness looks at all that logins and changes need.
func (n *node) readiness(ctx context.Context) (r readiness) {
	knox := make(chan error, 1)
	if n.knox != nil {
		go func() { knox <- n.pingKnox(ctx) }()
	}
	err := n.ping(ctx)
	if err := n.auth.InPlace(); err != nil {
		r.down, r.errs = append(r.down, "nobody can connect to the auth socket"), append(r.errs, err)
	}
	if n.redis != nil {
		if err := n.redis.Err(); err != nil {
			r.weak, r.errs = append(r.weak, "the cache is not used, in doubt, or full"), append(r.errs, fmt.Errorf("cache: %w", err))
		}
	}
	n.readinessOfKnox(&r, knox)
	n.readinessOfAddresses(&r)
	s, ofMany := n.store.(shared)
	if ofMany {
		if unheard := s.WatchErr(); unheard != nil {
			why := "changes by other daemons are not heard of"
			if err == nil {
				why += ", so that every login asks the database first"
			}
			r.weak, r.errs = append(r.weak, why), append(r.errs, unheard)
		}
	}
	switch left := n.believedFor(); {
	case err == nil:
		if ofMany {
			if err := s.ChangesErr(); err != nil {
				r.weak, r.errs = append(r.weak, "nothing can be changed, as nothing past the pooler tells where it leads"), append(r.errs, err)
			}
		}
		return r
	case ofMany && s.Elsewhere() && left > 0:
		r.weak, r.left = append(r.weak, elsewhere), left
	case ofMany && s.Elsewhere():
		r.down = append(r.down, elsewhere)
	case !ofMany && errors.Is(err, store.ErrUnwritable): // what is cached is of a database that is not there
		r.down = append(r.down, "the database is not in its place, or its disk fails")
	case left > 0:
		r.weak, r.left = append(r.weak, "the store does not answer"), left
	default:
		r.down = append(r.down, "the store does not answer")
	}
	r.errs = append(r.errs, err)
	return r
}

// readinessOfKnox adds what keeps the logins with tokens of Knox from being as they should be.
func (n *node) readinessOfKnox(r *readiness, ping <-chan error) {
	if n.knox == nil {
		return
	}
	err := <-ping
	seen, s := n.knoxSeen.Load(), n.verifier.Settings()
	switch {
	case err == nil:
		return
	case errors.Is(err, token.ErrDrift):
		r.down = append(r.down, "the tables of Knox are not what they should be")
	case seen == nil || time.Since(*seen) > s.TTL+s.Stale:
		r.down = append(r.down, "the database of Knox cannot be asked")
	default:
		r.weak = append(r.weak, "the database of Knox cannot be asked, and cached records are believed for a while")
	}
	r.errs = append(r.errs, err)
}

// readinessOfAddresses adds what is not served on its address of [http].
func (n *node) readinessOfAddresses(r *readiness) {
	var unserved []string
	n.unserved.Range(func(what, err any) bool {
		unserved = append(unserved, fmt.Sprintf("the address of %s cannot be had", what))
		r.errs = append(r.errs, fmt.Errorf("serve %s: %w", what, err.(error)))
		return true
	})
	slices.Sort(unserved)
	r.weak = append(r.weak, unserved...)
}

// pingKnox asks the database of Knox, and notes when it answered.
func (n *node) pingKnox(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	asked := time.Now()
	err := n.knox.Ping(ctx)
	n.knoxUp.Store(err == nil)
	switch {
	case err == nil && n.knoxAway.Swap(false):
		n.log.InfoContext(ctx, "the database of Knox answers again")
	case err != nil && !errors.Is(err, token.ErrDrift) && !n.knoxAway.Swap(true): // who finds drift tells of it
		n.log.WarnContext(ctx, "the database of Knox does not answer", "err", err)
	}
	if err == nil {
		n.knoxSeen.Store(&asked)
	}
	return err
}

// ping asks the store, and notes when it answered.
func (n *node) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	asked := time.Now()
	err := n.store.Ping(ctx)
	switch {
	case err == nil && !n.storeUp.Swap(true) && n.storeSeen.Load() != nil:
		n.log.InfoContext(ctx, "the store answers again")
	case err != nil && n.storeUp.Swap(false):
		n.log.WarnContext(ctx, "the store does not answer", "err", err)
	}
	if err == nil {
		n.storeSeen.Store(&asked)
		n.verifier.StoreAnswers(ctx, asked)
	}
	return err
}

// believedFor is how much longer the cache can answer in the store's place.
func (n *node) believedFor() time.Duration {
	seen := n.storeSeen.Load()
	if seen == nil || n.redis != nil && !n.redis.Used() {
		return 0
	}
	s := n.verifier.Settings()
	return s.TTL + s.Stale - time.Since(*seen)
}

// lookAfter asks what is told by ping now and then, for the metrics, until ctx ends.
func lookAfter(ctx context.Context, ping func(context.Context) error) {
	for ctx.Err() == nil {
		_ = ping(ctx) // who wants to know why asks /readyz, or reads the log of a login
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// registerDependencies exports what the daemon can reach.
func (n *node) registerDependencies() {
	add := func(dependency string, up func() bool) {
		n.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tokend_up_dependency", Help: "Whether what the daemon depends on works: the store, the tables of Knox, the shared cache, hearing of changes by other daemons, the address of SODAR's endpoint.",
			ConstLabels: prometheus.Labels{"dependency": dependency},
		}, func() float64 {
			if up() {
				return 1
			}
			return 0
		}))
	}
	add("store", n.storeUp.Load)
	if n.redis != nil {
		add("cache", func() bool { return n.redis.Err() == nil })
	}
	if n.knox != nil {
		add("knox", n.knoxUp.Load)
	}
	if s, ok := n.store.(shared); ok {
		add("changes", s.Hears)
	}
	if n.cfg.SODAR.Endpoint {
		add("sodar_endpoint", func() bool { _, unserved := n.unserved.Load(sodarEndpoint); return !unserved })
	}
}

// hasToEnd reports whether it does.
func (n *node) hasToEnd() bool {
	select {
	case <-n.ends:
		return true
	default:
		return false
	}
}

// serveReady is /readyz. What is not well is logged when it changes, and now and then.
func (n *node) serveReady() http.HandlerFunc {
	var mu sync.Mutex
	var said string // empty: all is well
	var when time.Time
	return func(w http.ResponseWriter, r *http.Request) {
		// One who hangs up is no reason not to be ready.
		ctx := context.WithoutCancel(r.Context())
		is := n.readiness(ctx)
		mu.Lock()
		switch {
		case n.hasToEnd(): // and that its socket is not there says nothing more
			is = readiness{down: []string{"the daemon ends"}, errs: []error{context.Canceled}}
		case is.errs != nil && (is.why() != said || time.Since(when) >= remindEvery):
			n.log.WarnContext(ctx, "not all is well", "state", is.state(), "err", errors.Join(is.errs...))
			said, when = is.why(), time.Now()
		case is.errs == nil && said != "":
			n.log.InfoContext(ctx, "all is well again")
			said = ""
		}
		mu.Unlock()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(is.status())
		_, _ = fmt.Fprintln(w, is)
	}
}
