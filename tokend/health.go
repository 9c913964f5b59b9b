package main

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

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
	mux.HandleFunc("GET /readyz", n.serveReady())
	return mux
}
