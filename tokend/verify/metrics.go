package verify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// outcome is what the cache had to say: a label from a closed list.
type outcome string

const (
	hit        outcome = "hit"      // a record young enough to be believed
	old        outcome = "old"      // a record that the store must confirm
	miss       outcome = "miss"     //
	buried     outcome = "buried"   // a tombstone: rights were taken away lately
	hitUnknown outcome = "unknown"  // there was no such token a moment ago
	tampered   outcome = "tampered" // it is nothing that a daemon of this site has put there
	failed     outcome = "error"    //
)

type metrics struct {
	validations *prometheus.CounterVec
	duration    prometheus.Histogram
	cache       *prometheus.CounterVec
	stale       prometheus.Counter
	tier        string
}

func newMetrics(reg prometheus.Registerer, tier string) *metrics {
	auto := promauto.With(reg)
	m := &metrics{
		tier: tier,
		validations: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "tokend_validations_total",
			Help: "Verdicts by result: ok, or the reason of the refusal.",
		}, []string{"result"}),
		duration: auto.NewHistogram(prometheus.HistogramOpts{
			Name:                            "tokend_validation_duration_seconds",
			Help:                            "Time from a complete request to its verdict.",
			Buckets:                         []float64{50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		cache: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "tokend_cache_requests_total",
			Help: "Questions to the cache by what it had to say.",
		}, []string{"tier", "outcome"}),
		stale: auto.NewCounter(prometheus.CounterOpts{
			Name: "tokend_stale_records_believed_total",
			Help: "Records older than [cache] ttl that were believed because the store could not say.",
		}),
	}
	for _, reason := range Reasons() {
		m.validations.WithLabelValues(string(reason))
	}
	for _, o := range []outcome{hit, old, miss, buried, hitUnknown, tampered, failed} {
		m.cache.WithLabelValues(tier, string(o))
	}
	return m
}

func (m *metrics) validated(reason Reason, took time.Duration) {
	m.validations.WithLabelValues(string(reason)).Inc()
	m.duration.Observe(took.Seconds())
}

func (m *metrics) cacheAsked(o outcome) { m.cache.WithLabelValues(m.tier, string(o)).Inc() }

func (m *metrics) believedStale() { m.stale.Inc() }
