package knox_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

var server *servers.PostgreSQL

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if server, err = servers.StartPostgreSQL("max_connections=300", "fsync=off"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { check(server.Stop()) }()
		return m.Run()
	}())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

type site struct{ *knoxtest.Site }

func newSite(t *testing.T, kind string) *site {
	t.Helper()
	return &site{knoxtest.New(t, server, kind)}
}

// open opens the site's database as the role, and looks after it while the test runs.
func (s *site) open(t *testing.T, change ...func(*knox.Config)) *knox.Store {
	t.Helper()
	cfg := knox.Config{URL: s.URL(), Connections: 3}
	for _, c := range change {
		c(&cfg)
	}
	store, err := knox.Open(t.Context(), cfg)
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		check(store.Close())
	})
	return store
}

// openByProxy does so on a way that can be broken.
func (s *site) openByProxy(t *testing.T) (*knox.Store, *servers.Proxy) {
	t.Helper()
	proxy, err := servers.StartProxy("unix", filepath.Join(server.Dir(), ".s.PGSQL."+server.Port()))
	check(err)
	t.Cleanup(func() { check(proxy.Close()) })
	return s.open(t, func(c *knox.Config) {
		c.URL = "postgres://" + s.Role + "@" + proxy.Addr() + "/" + s.Database() + "?sslmode=disable"
	}), proxy
}

func (s *site) find(t *testing.T, store *knox.Store, secret token.Knox) (token.Record, error) {
	t.Helper()
	return store.Lookup(t.Context(), s.Digest(secret))
}

// forEachSite runs the test with each kind of site.
func forEachSite(t *testing.T, test func(*testing.T, *site)) {
	t.Parallel()
	for _, name := range knoxtest.Kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSite(t, name))
		})
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func wantWords(t *testing.T, when string, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%s: got %v, want %s", when, err, w)
		}
	}
}

// lines is a log that may be written to concurrently.
type lines struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(words string) int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.text.String(), words)
}

func logTo(l *lines) func(*knox.Config) {
	return func(c *knox.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }
}

func forRole(sql, role string) string { return strings.ReplaceAll(sql, "ROLE", role) }

func has(err error, words []string) bool {
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			return false
		}
	}
	return true
}

// vector is a row of real Knox.
type vector struct {
	scheme      token.Scheme
	secret      token.Knox
	key, digest string
}

func vectors(t *testing.T) (all []vector) {
	t.Helper()
	text, err := os.ReadFile("../../token/testdata/knox.tsv")
	check(err)
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		secret, err := token.ParseKnox(f[1], f[1][:len(f[1])-token.KnoxLength])
		check(err)
		scheme := token.Knox5
		if f[0] == "knox4.2" {
			scheme = token.Knox4
		}
		all = append(all, vector{scheme, secret, f[2], f[3]})
	}
	return all
}
