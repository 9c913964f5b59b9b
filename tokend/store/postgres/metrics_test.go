package postgres_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// measured is an open database with what scrapes one of its metrics.
func measured(t *testing.T, url string, connections int) (*postgres.Store, func(name string) float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Connections: connections, Registerer: registry})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	return s, func(name string) float64 {
		t.Helper()
		page := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(page.Body.String()) {
			if text, is := strings.CutPrefix(line, name+" "); is {
				value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
				check(err)
				return value
			}
		}
		t.Fatalf("%s is not exported", name)
		return 0
	}
}

// TestChangesThatAreHeardOfAreCounted, and how long they took; but for those that were
// made before anybody was there to hear of them.
func TestChangesThatAreHeardOfAreCounted(t *testing.T) {
	url := newDatabase(t, "current")
	one := open(t, url)
	before, first, second, third := mint(t, one), mint(t, one), mint(t, one), mint(t, one)
	check(revokeNow(t, one, before))

	other, metric := measured(t, url, 2)
	heard := told(t, other)
	wantTold(t, "before the start", heard, before.Digest)
	await(t, "the first answer", other.Hears)
	const total, count, sum = "tokend_invalidations_total", "tokend_invalidation_lag_seconds_count", "tokend_invalidation_lag_seconds_sum"
	for _, name := range []string{total, count, sum} {
		if got := metric(name); got != 0 {
			t.Errorf("%s is %v before anything happened", name, got)
		}
	}
	const took = 300 * time.Millisecond
	now := token.Time(one.Now())
	time.Sleep(took)
	_, err := one.Revoke(t.Context(), token.Selection{ID: first.ID}, now, token.Event{At: now, Action: token.TokenRevoked})
	check(err)
	wantTold(t, "revoked", heard, first.Digest)
	if got := metric(total); got != 1 {
		t.Errorf("%v are counted, want one", got)
	}
	if lag := metric(sum); lag < (took-100*time.Millisecond).Seconds() || lag > 30 {
		t.Errorf("a change was heard of within %v s, though it took %s", lag, took)
	}
	now = token.Time(one.Now())
	_, _, err = one.SetDisabled(t.Context(), "alice", true, now, token.Event{At: now, Action: token.UserDisabled})
	check(err)
	wantTold(t, "disabled", heard, second.Digest, third.Digest)
	for _, name := range []string{total, count} {
		if got := metric(name); got != 3 {
			t.Errorf("%s is %v, want 3", name, got)
		}
	}
	run(t.Context(), url, `SET session_replication_role = replica; DELETE FROM events WHERE number = (SELECT max(number) FROM events)`)
	wantTold(t, "put back", heard, before.Digest, first.Digest)
	if got := metric(count); got != 3 {
		t.Errorf("of what was heard of before, the lag is told again: %v, want 3", got)
	}
}

// TestConnectionsInUseAreExported while queries wait for a table.
func TestConnectionsInUseAreExported(t *testing.T) {
	url := newDatabase(t, "current")
	s, metric := measured(t, url, 5)
	of := func(pool, state string) float64 {
		return metric(`tokend_store_connections{pool="` + pool + `",state="` + state + `"}`)
	}
	want := func(pool string, idle, used, most float64) bool {
		return of(pool, "idle") == idle && of(pool, "used") == used && of(pool, "max") == most
	}
	if !want("logins", 0, 0, 2) || !want("changes", 0, 0, 3) {
		t.Errorf("at first: %v, %v of %v for logins, %v, %v of %v for changes", of("logins", "idle"), of("logins", "used"), of("logins", "max"),
			of("changes", "idle"), of("changes", "used"), of("changes", "max"))
	}
	holder := connect(t.Context(), url)
	_, err := holder.Exec(t.Context(), `BEGIN; LOCK TABLE tokens`)
	check(err)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for ctx.Err() == nil { // each has its timeout
			_, _ = s.Lookup(ctx, token.Digest{})
		}
	})
	for range 2 {
		waiting.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.Records(ctx, token.Page{Limit: 1})
			}
		})
	}
	await(t, "the queries", func() bool { return want("logins", 0, 1, 2) && want("changes", 0, 2, 3) })
	check(holder.Close(t.Context()))
	cancel()
	waiting.Wait()
	check(s.Ping(t.Context()))
	_, err = s.Records(t.Context(), token.Page{Limit: 1})
	check(err)
	await(t, "their end", func() bool {
		return of("logins", "used") == 0 && of("logins", "idle") >= 1 && of("changes", "used") == 0 && of("changes", "idle") >= 1
	})
}

// TestSkewOfTheClocksIsExported: the server is an hour ahead.
func TestSkewOfTheClocksIsExported(t *testing.T) {
	_, metric := measured(t, anHourAhead(t), 2)
	if skew := metric("tokend_clock_skew_seconds"); skew < -3601 || skew > -3599 {
		t.Errorf("this machine's clock is exported as %v s ahead, want an hour behind", skew)
	}
}
