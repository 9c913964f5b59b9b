package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const metric = "tokend_store_request_duration_seconds"

func TestOutcomeTellsANoFromAFailure(t *testing.T) {
	for _, c := range []struct {
		err     error
		outcome string
	}{
		{nil, "ok"},
		{token.ErrNotFound, "not_found"},
		{fmt.Errorf("user: %w", token.ErrNotFound), "not_found"},
		{token.ErrUserDisabled, "refused"},
		{token.ErrTooMany, "refused"},
		{store.ErrExists, "refused"},
		{store.ErrUnwritable, "error"},
		{context.DeadlineExceeded, "error"},
		{errors.New("another"), "error"},
	} {
		registry := prometheus.NewRegistry()
		store.NewMetrics(registry).Observe(store.Mint, time.Millisecond, c.err)
		if line := metric + `_count{operation="mint",outcome="` + c.outcome + `"} 1`; !strings.Contains(scrape(registry), line) {
			t.Errorf("%v: not exported: %s", c.err, line)
		}
	}
}

// TestOutcomesAreThereBeforeTheyHappen: of a count that begins with 1, Prometheus sees no increase.
func TestOutcomesAreThereBeforeTheyHappen(t *testing.T) {
	registry := prometheus.NewRegistry()
	store.NewMetrics(registry)
	page := scrape(registry)
	for _, operation := range []string{"lookup", "mint", "revoke", "disable", "enable", "records", "users", "events", "count", "ping"} {
		for _, outcome := range []string{"ok", "error"} {
			if line := fmt.Sprintf(`%s_count{operation="%s",outcome="%s"} 0`, metric, operation, outcome); !strings.Contains(page, line) {
				t.Errorf("not exported: %s", line)
			}
		}
	}
}

func TestBucketsReachFromMicrosecondsToSeconds(t *testing.T) {
	registry := prometheus.NewRegistry()
	m := store.NewMetrics(registry)
	for _, took := range []time.Duration{40 * time.Microsecond, 3 * time.Millisecond, 4 * time.Second} {
		m.Observe(store.Lookup, took, nil)
	}
	page := scrape(registry)
	for bound, count := range map[string]int{"5e-05": 1, "0.0025": 1, "0.005": 2, "2.5": 2, "5": 3, "+Inf": 3} {
		if line := fmt.Sprintf(`%s_bucket{operation="lookup",outcome="ok",le="%s"} %d`, metric, bound, count); !strings.Contains(page, line) {
			t.Errorf("not exported: %s", line)
		}
	}
}

func TestHistogramIsNativeToo(t *testing.T) {
	registry := prometheus.NewRegistry()
	store.NewMetrics(registry).Observe(store.Lookup, time.Millisecond, nil)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, m := range families[0].GetMetric() {
		h := m.GetHistogram()
		if h.GetSampleCount() == 0 {
			continue
		}
		seen++
		// 3 is the schema whose buckets grow by 2^(1/8), just below 1.1
		if h.GetSchema() != 3 || len(h.GetPositiveSpan()) == 0 {
			t.Errorf("schema %d with %d spans, want a native histogram of schema 3", h.GetSchema(), len(h.GetPositiveSpan()))
		}
	}
	if seen != 1 {
		t.Errorf("%d series have counted, want one", seen)
	}
}

func TestStoresThatShareARegistererShareTheMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		store.NewMetrics(registry).Observe(store.Ping, 0, nil)
	}
	if line := metric + `_count{operation="ping",outcome="ok"} 2`; !strings.Contains(scrape(registry), line) {
		t.Errorf("not exported: %s", line)
	}
}

func TestWithoutRegistererNothingIsExported(*testing.T) {
	store.NewMetrics(nil).Observe(store.Ping, 0, nil)
}

func scrape(registry *prometheus.Registry) string {
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return page.Body.String()
}
