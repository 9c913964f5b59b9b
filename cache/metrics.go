package cache

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

func registerMetrics(reg prometheus.Registerer, r *Redis) {
	auto := promauto.With(reg)
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tokend_invalidations_pending",
		Help: "Tokens of which rights were taken away, and of which the shared cache could not be told yet.",
	}, func() float64 { return float64(r.graves.pending()) })
	for state, count := range map[string]func() uint32{
		"idle": func() uint32 { return r.client.PoolStats().IdleConns },
		"used": func() uint32 { s := r.client.PoolStats(); return s.TotalConns - min(s.TotalConns, s.IdleConns) }, // counted one after the other
	} {
		auto.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tokend_cache_connections", Help: "Connections to the shared cache.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count()) })
	}
}
