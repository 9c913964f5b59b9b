package manage_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// scrape reads the page as Prometheus would, some seconds after the last time.
func (f *fixture) scrape(t *testing.T) string {
	t.Helper()
	f.now = f.now.Add(5 * time.Second)
	return f.scrapeAgain(t)
}

func (f *fixture) scrapeAgain(t *testing.T) string {
	t.Helper()
	reply := httptest.NewRecorder()
	promhttp.HandlerFor(f.registry, promhttp.HandlerOpts{}).ServeHTTP(reply, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if reply.Code != http.StatusOK {
		t.Errorf("got %d: %s", reply.Code, reply.Body)
	}
	return reply.Body.String()
}

// counted fails unless these are the samples that are exported.
func (f *fixture) counted(t *testing.T, when string, want ...string) {
	t.Helper()
	var samples []string
	for line := range strings.Lines(f.scrape(t)) {
		if !strings.HasPrefix(line, "#") {
			samples = append(samples, strings.TrimSpace(line))
		}
	}
	same(t, when, samples, want)
}

func TestTokensAreCountedByState(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.counted(t, "none", `tokend_tokens{state="active"} 0`, `tokend_tokens{state="expired"} 0`, `tokend_tokens{state="revoked"} 0`)
	f.create(t, "alice", "")
	f.create(t, "alice", "1h")
	f.create(t, "bob", "2h")
	_, record := f.create(t, "bob", "")
	if _, err := f.Revoke(t.Context(), actor, record.ID); err != nil {
		t.Fatal(err)
	}
	f.counted(t, "four", `tokend_tokens{state="active"} 3`, `tokend_tokens{state="expired"} 0`, `tokend_tokens{state="revoked"} 1`)
	f.now = f.now.Add(time.Hour + time.Microsecond)
	f.counted(t, "later", `tokend_tokens{state="active"} 2`, `tokend_tokens{state="expired"} 1`, `tokend_tokens{state="revoked"} 1`)
	f.Apply(manage.Limits{MaxExpiry: hour})
	f.counted(t, "under a limit", `tokend_tokens{state="active"} 0`, `tokend_tokens{state="expired"} 3`, `tokend_tokens{state="revoked"} 1`)
}

func TestTheGaugeIsWellFormed(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(newFixture(t, manage.Limits{}).scrape(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	same(t, "problems", problems, []promlint.Problem{})
}

// TestACountThatIsNotKnownIsNotExported: 0 would be a lie, and an error would
// take all other metrics off the page.
func TestACountThatIsNotKnownIsNotExported(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice", "")
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	lines := f.logged(t, func() { f.counted(t, "closed") })
	if len(lines) != 1 || lines[0].Level != "WARN" || lines[0].Msg != "tokens were not counted" || !strings.Contains(lines[0].Err, "closed") {
		t.Errorf("logged: %+v", lines)
	}
}

func TestNoRegistererMeansNoMetrics(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	m := manage.New(manage.Config{Store: f.store, Logger: discard, Forget: func(context.Context, ...token.Digest) error { return nil }})
	before := token.Time(time.Now())
	_, record, err := m.Create(t.Context(), actor, manage.Request{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	// Without a clock of its own it goes by the system's.
	if record.Created.Before(before) || record.Created.After(time.Now()) {
		t.Errorf("created %v, after %v", record.Created, before)
	}
}

// TestTokensAreNotCountedForEveryScrape, which anybody on the machine can ask for.
func TestTokensAreNotCountedForEveryScrape(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	before := f.scrape(t)
	f.create(t, "alice", "")
	f.now = f.now.Add(5*time.Second - time.Microsecond)
	if got := f.scrapeAgain(t); got != before {
		t.Errorf("they were counted again:\n%s", got)
	}
	f.now = f.now.Add(time.Microsecond)
	if got := f.scrapeAgain(t); !strings.Contains(got, `tokend_tokens{state="active"} 1`) {
		t.Errorf("they were not:\n%s", got)
	}
	f.now = f.now.Add(-time.Hour) // the clock was set back
	f.create(t, "alice", "")
	if got := f.scrapeAgain(t); !strings.Contains(got, `tokend_tokens{state="active"} 2`) {
		t.Errorf("after the clock was set back they were not:\n%s", got)
	}
}
