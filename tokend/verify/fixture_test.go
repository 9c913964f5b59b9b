package verify_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tokend/cache"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

const (
	ttl   = time.Minute
	stale = 10 * time.Minute
)

// source is the real store, and what a test does to its look-ups.
type source struct {
	*sqlite.Store
	asked  atomic.Int64
	around atomic.Pointer[lookup] // nil: the store answers by itself
}

type lookup func(context.Context, token.Digest) (token.Record, error)

func (s *source) Lookup(ctx context.Context, digest token.Digest) (token.Record, error) {
	s.asked.Add(1)
	if around := s.around.Load(); around != nil {
		return (*around)(ctx, digest)
	}
	return s.Store.Lookup(ctx, digest)
}

// replace has f answer in the store's place; nil puts the store back.
func (s *source) replace(f lookup) {
	if f == nil {
		s.around.Store(nil)
		return
	}
	s.around.Store(&f)
}

// asks returns how many look-ups f makes.
func (s *source) asks(f func()) int {
	before := s.asked.Load()
	f()
	return int(s.asked.Load() - before)
}

// fixture is a Verifier over a real store and a real cache.
type fixture struct {
	*verify.Verifier
	source   *source
	registry *prometheus.Registry
	log      *transcript
}

// newFixture takes of cfg what a test cares for, and adds the rest.
func newFixture(t *testing.T, cfg verify.Config) *fixture {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "tokend.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{source: &source{Store: store}, registry: prometheus.NewRegistry(), log: new(transcript)}
	if cfg.Cache == nil {
		cfg.Cache = newMemory(t)
	}
	if cfg.Settings.TTL == 0 {
		cfg.Settings.TTL, cfg.Settings.Stale = ttl, stale
	}
	cfg.Source, cfg.CacheTier, cfg.Registerer = f.source, "memory", f.registry
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if f.Verifier, err = verify.New(cfg); err != nil {
		t.Fatal(err)
	}
	return f
}

func newMemory(t *testing.T) *cache.Memory {
	t.Helper()
	memory, err := cache.NewMemory(1000)
	if err != nil {
		t.Fatal(err)
	}
	return memory
}

// mint keeps a token for alice, or as the record says, and returns its secret.
func (f *fixture) mint(t *testing.T, r token.Record) token.Secret {
	t.Helper()
	secret := token.Mint()
	r.ID, r.Digest, r.Hint = token.NewID(), secret.Digest(), secret.Hint()
	if r.Owner == "" {
		r.Owner = "alice"
	}
	if r.Created.IsZero() {
		r.Created = time.Now()
	}
	if err := f.source.Mint(t.Context(), r, token.Quota{}, token.Event{At: r.Created}); err != nil {
		t.Fatal(err)
	}
	return secret
}

// revoke ends a token in the store, and nowhere else.
func (f *fixture) revoke(t *testing.T, secret token.Secret) {
	t.Helper()
	if _, err := f.source.Revoke(t.Context(), token.Selection{Digest: secret.Digest()}, time.Now(), token.Event{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// disable disables a user in the store, and nowhere else.
func (f *fixture) disable(t *testing.T, user string) {
	t.Helper()
	if _, _, err := f.source.SetDisabled(t.Context(), user, true, time.Now(), token.Event{At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// reason is the verdict on alice with the secret.
func (f *fixture) reason(t *testing.T, secret token.Secret) verify.Reason {
	t.Helper()
	return f.Check(t.Context(), "alice", secret.Reveal()).Reason
}

// expect checks alice with the secret.
func (f *fixture) expect(t *testing.T, secret token.Secret, want verify.Reason) {
	t.Helper()
	if got := f.reason(t, secret); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// scrape reads all samples as Prometheus would, by name and labels.
func (f *fixture) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	page := httptest.NewRecorder()
	promhttp.HandlerFor(f.registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	samples := map[string]float64{}
	for line := range strings.Lines(page.Body.String()) {
		name, text, found := strings.Cut(strings.TrimSpace(line), " ")
		if value, err := strconv.ParseFloat(text, 64); found && err == nil {
			samples[name] = value
		}
	}
	return samples
}

// transcript keeps what was logged.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var discard = slog.New(slog.DiscardHandler)
