package postgres

import (
	"time"

	"tokend/tokend/store/server"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// watchMetrics is about the changes that were heard of.
type watchMetrics struct {
	total prometheus.Counter
	lag   prometheus.Histogram
}

func newWatchMetrics(reg prometheus.Registerer, c *server.Clock) *watchMetrics {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokend_clock_skew_seconds",
		Help: "How far this machine's clock is ahead of the database server's, which decides expiry.",
	}, func() float64 { return c.Skew().Seconds() })
	return &watchMetrics{
		total: auto.NewCounter(prometheus.CounterOpts{
			Name: "tokend_invalidations_total",
			Help: "Tokens of which another daemon, or this one, took rights away, and whose records are believed no more.",
		}),
		lag: auto.NewHistogram(prometheus.HistogramOpts{
			Name:                            "tokend_invalidation_lag_seconds",
			Help:                            "Time from a change to a token until this daemon heard of it.",
			Buckets:                         []float64{1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
	}
}

func (m *watchMetrics) heard(after time.Duration) {
	m.total.Inc()
	m.lag.Observe(max(after, 0).Seconds())
}
