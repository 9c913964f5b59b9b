package knox

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"tokend/tokend/token"
)

type metrics struct{ lookups *prometheus.HistogramVec }

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name: "tokend_knox_request_duration_seconds",
		Help: "How long Knox's database took to answer, by outcome (ok, drift: its tables are not what they should be, error).",
		Buckets: []float64{
			50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1,
		},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"outcome"})}
	for _, outcome := range []string{"ok", "drift", "error"} { // an increase from nothing at all would not be seen
		m.lookups.WithLabelValues(outcome)
	}
	return m
}

func (m *metrics) observe(begun time.Time, err error) {
	outcome := "error"
	switch {
	case err == nil:
		outcome = "ok"
	case errors.Is(err, token.ErrDrift):
		outcome = "drift"
	}
	m.lookups.WithLabelValues(outcome).Observe(time.Since(begun).Seconds())
}
