package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"

	"tokend/tokend/store"
)

// readyTimeout is how long the store may take to say that it is there.
const readyTimeout = 2 * time.Second

// maxScrapes is how many may be under way: anybody on the machine can ask for one.
const maxScrapes = 3

// newRegistry returns the daemon's metrics, with the gauge of the last reload.
func newRegistry() (*prometheus.Registry, prometheus.Gauge) {
	registry := prometheus.NewRegistry()
	reloaded := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tokend_config_last_reload_successful",
		Help: "Whether the configuration was valid when it was last loaded.",
	})
	reloaded.Set(1)
	registry.MustRegister(
		reloaded,
		versioncollector.NewCollector("tokend"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry, reloaded
}

// health serves /metrics, /healthz (the process runs) and /readyz (it can answer
// logins, or why not).
func (n *node) health() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, ErrorHandling: promhttp.ContinueOnError, Registry: n.registry,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	seldom := rate.Sometimes{First: 10, Interval: time.Second} // strangers may ask as often as they like
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		// One who hangs up is no reason not to be ready.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), readyTimeout)
		defer cancel()
		if why, err := n.unready(ctx); err != nil {
			seldom.Do(func() { n.log.WarnContext(ctx, "not ready", "err", err) })
			http.Error(w, "not ready: "+why+"; the log says more", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	return mux
}

// unready says why logins, or changes, cannot be made now: for strangers, and for
// the log. No error: they can.
func (n *node) unready(ctx context.Context) (why string, err error) {
	if err := n.auth.InPlace(); err != nil {
		return "nobody can connect to the auth socket", err
	}
	err = n.store.Ping(ctx)
	if errors.Is(err, store.ErrUnwritable) {
		return "the database is not in its place, or its disk fails", err
	}
	return "the store does not answer", err
}
