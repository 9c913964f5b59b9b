package manage

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/token"
)

// countTimeout is how long a scrape may wait for the store.
const countTimeout = 2 * time.Second

// counts is the gauge tokend_tokens{state}, asked of the store at each scrape.
// When the store cannot say, the gauge is absent.
type counts struct {
	manager *Manager
	desc    *prometheus.Desc
}

func registerMetrics(reg prometheus.Registerer, m *Manager) {
	if reg == nil {
		return
	}
	reg.MustRegister(counts{m, prometheus.NewDesc("tokend_tokens",
		"Tokens by state: active, expired or revoked.", []string{"state"}, nil)})
}

// Describe implements prometheus.Collector.
func (c counts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c counts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	byState, err := c.manager.store.Count(ctx, c.manager.now(), c.manager.limits.Load().MaxExpiry)
	if err != nil {
		c.manager.log.Warn("tokens were not counted", "err", err)
		return
	}
	for _, state := range []token.State{token.Active, token.Expired, token.Revoked} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(byState[state]), string(state))
	}
}
