package server

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// RegisterPools exports how many connections there are, and whether they are in use.
func RegisterPools(reg prometheus.Registerer, pools map[string]*pgxpool.Pool) {
	auto := promauto.With(reg)
	for name, pool := range pools {
		for state, count := range map[string]func() int32{
			"idle": func() int32 { return pool.Stat().IdleConns() },
			"used": func() int32 { return pool.Stat().AcquiredConns() },
			"max":  func() int32 { return pool.Stat().MaxConns() },
		} {
			auto.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "tokend_store_connections", Help: "Connections to the database, and how many there may be.",
				ConstLabels: prometheus.Labels{"pool": name, "state": state},
			}, func() float64 { return float64(count()) })
		}
	}
}
