package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/config"
	"tokend/tokend/manage"
	"tokend/tokend/socket"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// assembled is a daemon without its sockets, as the keys of [cache] say.
func assembled(t *testing.T, keys string) *node {
	t.Helper()
	cfg, err := config.Parse("tokend.toml", []byte("[tokens]\nmax_per_user = 1000\n[cache]\n"+keys))
	if err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(t.TempDir(), "tokend.db")
	cfg.Store.URL = "sqlite:" + database
	n := &node{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	n.registry, n.reloaded = newRegistry()
	if n.store, err = sqlite.Open(t.Context(), sqlite.Config{Path: database, Registerer: n.registry}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := n.assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) create(t *testing.T) token.Secret {
	t.Helper()
	secret, _, err := n.manager.Create(t.Context(), "a test", manage.Request{User: "alice", Expiry: "never"})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func (n *node) check(ctx context.Context, secret token.Secret) verify.Reason {
	return n.verifier.Check(ctx, "alice", secret.Reveal()).Reason
}

// asked is how often the cache answered in that way.
func (n *node) asked(t *testing.T, outcome string) int {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if family.GetName() == "tokend_cache_requests_total" && label.GetName() == "outcome" && label.GetValue() == outcome {
					return int(metric.GetCounter().GetValue())
				}
			}
		}
	}
	t.Fatalf("tokend_cache_requests_total has no outcome %s", outcome)
	return 0
}

func TestRecordIsBelievedForAsLongAsTheConfigurationSays(t *testing.T) {
	for _, c := range []struct {
		keys            string
		lookups         int
		withoutTheStore verify.Reason
	}{
		{`ttl = "1h"`, 1, verify.OK},
		{"ttl = \"1s\"\nstale = \"1h\"", 2, verify.OK},
		{"ttl = \"1s\"\nstale = \"0s\"", 2, verify.Unavailable},
	} {
		t.Run(c.keys, func(t *testing.T) {
			t.Parallel()
			n := assembled(t, c.keys)
			secret := n.create(t)
			for range 2 {
				if got := n.check(t.Context(), secret); got != verify.OK {
					t.Errorf("got %s", got)
				}
				time.Sleep(1100 * time.Millisecond)
			}
			if got := n.asked(t, "miss") + n.asked(t, "old"); got != c.lookups {
				t.Errorf("%d look-ups in the store, want %d", got, c.lookups)
			}
			if err := n.store.Close(); err != nil {
				t.Fatal(err)
			}
			if got := n.check(t.Context(), secret); got != c.withoutTheStore {
				t.Errorf("without the store: %s, want %s", got, c.withoutTheStore)
			}
		})
	}
}

// TestReloadedTimesAreInForce, also for what is cached.
func TestReloadedTimesAreInForce(t *testing.T) {
	n := assembled(t, `ttl = "1h"`)
	n.level = new(slog.LevelVar)
	for name, guard := range map[string]**socket.Guard{"auth": &n.auth, "admin": &n.admin} {
		listener, err := socket.Listen(t.Context(), filepath.Join(t.TempDir(), name), socket.Peers{})
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		*guard = socket.NewGuard(listener, socket.Peers{}, n.log, socket.NewRejections(nil))
	}
	secret := n.create(t)
	if got := n.check(t.Context(), secret); got != verify.OK {
		t.Errorf("got %s", got)
	}
	n.path = filepath.Join(t.TempDir(), "tokend.toml")
	if err := os.WriteFile(n.path, []byte("[cache]\nttl = \"1s\"\nstale = \"0s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.reload(t.Context())
	time.Sleep(1100 * time.Millisecond)
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	if got := n.check(t.Context(), secret); got != verify.Unavailable {
		t.Errorf("without the store, after the new ttl: %s, want %s", got, verify.Unavailable)
	}
}

// TestCacheHoldsAsManyEntriesAsTheConfigurationSays leaves room for what is evicted a moment later.
func TestCacheHoldsAsManyEntriesAsTheConfigurationSays(t *testing.T) {
	const tokens = 200
	for keys, most := range map[string]int{"entries = 20": tokens / 2, "entries = 1000": tokens} {
		n := assembled(t, keys)
		var secrets []token.Secret
		for range tokens {
			secrets = append(secrets, n.create(t))
		}
		hits := func() int {
			before := n.asked(t, "hit")
			for _, secret := range secrets {
				if got := n.check(t.Context(), secret); got != verify.OK {
					t.Errorf("got %s", got)
				}
			}
			return n.asked(t, "hit") - before
		}
		hits() // fills it
		got := hits()
		for begun := time.Now(); got > most && time.Since(begun) < 10*time.Second; { // others may keep it from its work
			got = hits()
		}
		if got > most || most == tokens && got < tokens {
			t.Errorf("%s: %d of %d were hits", keys, got, tokens)
		}
	}
}

func TestReadinessIsTheStoresAndTheAuthSockets(t *testing.T) {
	n := assembled(t, "")
	path := filepath.Join(t.TempDir(), "s")
	listener, err := socket.Listen(t.Context(), path, socket.Peers{})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	n.auth = socket.NewGuard(listener, socket.Peers{}, n.log, socket.NewRejections(nil))
	get := func(path string) (int, string) {
		page := httptest.NewRecorder()
		n.health().ServeHTTP(page, httptest.NewRequest(http.MethodGet, path, nil))
		return page.Code, page.Body.String()
	}
	if status, text := get("/readyz"); status != http.StatusOK || text != "ready\n" {
		t.Errorf("got %d %q", status, text)
	}
	unready := func(what, why string) {
		t.Helper()
		if status, text := get("/readyz"); status != http.StatusServiceUnavailable || text != "not ready: "+why+"; the log says more\n" {
			t.Errorf("%s: %d %q", what, status, text)
		}
	}
	for file, why := range map[string]string{
		path: "nobody can connect to the auth socket", strings.TrimPrefix(n.cfg.Store.URL, "sqlite:"): "the database is not in its place, or its disk fails",
	} {
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		unready("without "+file, why)
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	}
	if status, text := get("/readyz"); status != http.StatusOK {
		t.Errorf("all is back: %d %q", status, text)
	}
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	if status, text := get("/readyz"); status != http.StatusOK || text != "degraded: the store does not answer, and cached records are believed for 11m0s more; the log says more\n" {
		t.Errorf("without its store: %d %q", status, text)
	}
	long := time.Now().Add(-12 * time.Minute)
	n.storeSeen.Store(&long)
	unready("long without its store", "the store does not answer")
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("the process runs all the same, and /healthz says %d", status)
	}
	if status, text := get("/metrics"); status != http.StatusOK || strings.Contains(text, "tokend_tokens{") {
		t.Errorf("/metrics: %d, with a count of tokens that nobody knows:\n%s", status, text)
	}
}

// TestWhoHangsUpMakesNothingUnready: a probe that is impatient, or a stranger.
func TestWhoHangsUpMakesNothingUnready(t *testing.T) {
	n := assembled(t, "")
	listener, err := socket.Listen(t.Context(), filepath.Join(t.TempDir(), "s"), socket.Peers{})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	n.auth = socket.NewGuard(listener, socket.Peers{}, n.log, socket.NewRejections(nil))
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	page := httptest.NewRecorder()
	n.health().ServeHTTP(page, httptest.NewRequestWithContext(gone, http.MethodGet, "/readyz", nil))
	if page.Code != http.StatusOK {
		t.Errorf("got %d %q", page.Code, page.Body)
	}
}

// TestWhoAsksForReadinessDoesNotFillTheLog: anybody on the machine may ask.
func TestWhoAsksForReadinessDoesNotFillTheLog(t *testing.T) {
	n := assembled(t, "")
	path := filepath.Join(t.TempDir(), "s")
	listener, err := socket.Listen(t.Context(), path, socket.Peers{})
	if err != nil {
		t.Fatal(err)
	}
	n.auth = socket.NewGuard(listener, socket.Peers{}, n.log, socket.NewRejections(nil))
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	health := n.health()
	const asked = 500
	for range asked {
		page := httptest.NewRecorder()
		health.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		if page.Code != http.StatusServiceUnavailable {
			t.Fatalf("got %d", page.Code)
		}
	}
	if lines := strings.Count(log.String(), `state="not ready"`); lines == 0 || lines > asked/5 {
		t.Errorf("%d lines of the log for %d questions", lines, asked)
	}
}

// slowly is a collector that takes its time.
type slowly struct{ begun, goOn chan struct{} }

func (slowly) Describe(chan<- *prometheus.Desc) {}

func (s slowly) Collect(chan<- prometheus.Metric) {
	s.begun <- struct{}{}
	<-s.goOn
}

func TestSoManyScrapesAndNoMoreAreUnderWay(t *testing.T) {
	n := assembled(t, "")
	slow := slowly{make(chan struct{}), make(chan struct{})}
	n.registry.MustRegister(slow)
	health := n.health()
	scrape := func() int {
		page := httptest.NewRecorder()
		health.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return page.Code
	}
	var scrapes sync.WaitGroup
	for range maxScrapes {
		scrapes.Go(func() {
			if got := scrape(); got != http.StatusOK {
				t.Errorf("got %d", got)
			}
		})
		<-slow.begun
	}
	if got := scrape(); got != http.StatusServiceUnavailable {
		t.Errorf("one more: got %d", got)
	}
	close(slow.goOn)
	scrapes.Wait()
}

func TestPeersThatAreLeftOutAreTold(t *testing.T) {
	const some, nobody = `level=WARN msg="peers are left out; reload (SIGHUP) once they are known" section=auth peers="no-one (not known on this machine), nobody (stands for many)"`,
		`level=ERROR msg="nobody may ask: every peer is left out" section=auth`
	for _, c := range []struct {
		names []string
		told  []string
	}{
		{[]string{"root"}, nil}, {[]string{"root", "no-one", "nobody"}, []string{some}}, {[]string{"no-one", "nobody"}, []string{some, nobody}},
	} {
		var log bytes.Buffer
		n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
		n.resolve("auth", c.names)
		if strings.Count(log.String(), "\n") != len(c.told) {
			t.Errorf("%q: logged %s", c.names, &log)
		}
		for _, told := range c.told {
			if !strings.Contains(log.String(), told) {
				t.Errorf("%q: the log lacks %s:\n%s", c.names, told, &log)
			}
		}
	}
}

// TestMetricsAddressIsNoMatterAtTheEnd, even if it could not be had.
func TestMetricsAddressIsNoMatterAtTheEnd(t *testing.T) {
	taken := httptest.NewServer(nil)
	defer taken.Close()
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
	n.cfg.HTTP.Metrics = taken.Listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.serveNetwork(ctx, onNetwork{what: "metrics", address: n.cfg.HTTP.Metrics, handler: http.NotFoundHandler(), connections: 1}); err != nil || log.Len() > 0 {
		t.Errorf("got %v, logged %s", err, &log)
	}
}
