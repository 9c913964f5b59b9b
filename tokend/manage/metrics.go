package manage

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/token"
)

const (
	// countTimeout is how long a scrape may wait for the store.
	countTimeout = 2 * time.Second
	// countLife is how long a count is good for other scrapes: it reads all
	// tokens, and anybody on the machine may scrape.
	countLife = 5 * time.Second
)

// counts is the gauge tokend_tokens{state}, asked of the store when it is scraped
// and the last count is too old. When the store cannot say, the gauge is absent.
type counts struct {
	manager *Manager
	desc    *prometheus.Desc

	mu   sync.Mutex
	last map[token.State]int
	at   time.Time
}

func registerMetrics(reg prometheus.Registerer, m *Manager) {
	if reg == nil {
		return
	}
	reg.MustRegister(&counts{manager: m, desc: prometheus.NewDesc("tokend_tokens",
		"Tokens by state: active, expired or revoked.", []string{"state"}, nil)})
}

// Describe implements prometheus.Collector.
func (c *counts) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *counts) Collect(ch chan<- prometheus.Metric) {
	byState, err := c.count()
	if err != nil {
		c.manager.log.Warn("tokens were not counted", "err", err)
		return
	}
	for _, state := range []token.State{token.Active, token.Expired, token.Revoked} {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(byState[state]), string(state))
	}
}

func (c *counts) count() (map[token.State]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.manager.now()
	if age := now.Sub(c.at); c.last != nil && age >= 0 && age < countLife {
		return c.last, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	counted, err := c.manager.store.Count(ctx, now, c.manager.limits.Load().MaxExpiry)
	if err != nil {
		return nil, err
	}
	c.last, c.at = counted, now
	return counted, nil
}
