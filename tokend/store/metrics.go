package store

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/token"
)

// Operation is what was asked of a store.
type Operation string

// Every Operation there is.
const (
	Lookup  Operation = "lookup"
	Mint    Operation = "mint"
	Adopt   Operation = "adopt"
	Known   Operation = "known"
	Revoke  Operation = "revoke"
	Disable Operation = "disable"
	Enable  Operation = "enable"
	Records Operation = "records"
	Users   Operation = "users"
	Events  Operation = "events"
	Count   Operation = "count"
	Ping    Operation = "ping"

	Rotate   Operation = "rotate"
	Uses     Operation = "uses"
	Accounts Operation = "accounts"
	Tickets  Operation = "tickets"

	CacheKeys      Operation = "cache_keys"
	RotateCacheKey Operation = "rotate_cache_key"
)

var operations = []Operation{Lookup, Mint, Adopt, Known, Revoke, Disable, Enable, Records, Users, Events, Count, Ping, Rotate, Uses, Accounts, Tickets, CacheKeys, RotateCacheKey}

// Metrics measures a store's requests.
type Metrics struct {
	requests *prometheus.HistogramVec
}

// NewMetrics returns metrics that are exported by the registerer, or by nobody
// if it is nil. Stores that share a registerer share the metrics, too.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	requests := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tokend_store_request_duration_seconds",
		Help: "How long the store took to answer, by operation and outcome (ok, not_found, refused, error).",
		Buckets: []float64{
			50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1, 2.5, 5,
		},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"operation", "outcome"})
	for _, operation := range operations { // an increase from nothing at all would not be seen
		for _, outcome := range []string{"ok", "error"} {
			requests.WithLabelValues(string(operation), outcome)
		}
	}
	if registerer == nil {
		return &Metrics{requests}
	}
	err := registerer.Register(requests)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return &Metrics{already.ExistingCollector.(*prometheus.HistogramVec)}
	}
	if err != nil {
		panic(err) // two different metrics of one name: a mistake in the program
	}
	return &Metrics{requests}
}

// Observe notes that the operation took so long and ended with err, or well if
// err is nil.
func (m *Metrics) Observe(operation Operation, took time.Duration, err error) {
	m.requests.WithLabelValues(string(operation), outcome(err)).Observe(took.Seconds())
}

// outcome tells a store's no, which is an answer, from its failure to answer.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, token.ErrNotFound):
		return "not_found"
	case errors.Is(err, token.ErrUserDisabled), errors.Is(err, token.ErrTooMany), errors.Is(err, ErrExists):
		return "refused"
	}
	return "error"
}
