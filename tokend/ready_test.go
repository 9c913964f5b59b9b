package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/socket"
	"tokend/tokend/verify"
)

const (
	cacheIsUnused = "the cache is not used, in doubt, or full"
	changesUnsaid = "changes by other daemons are not heard of, so that every login asks the database first"
)

// listening has the daemon's auth socket in its place, and returns that.
func (n *node) listening(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	listener, err := socket.Listen(t.Context(), path, socket.Peers{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	n.auth = socket.NewGuard(listener, socket.Peers{}, n.log, socket.NewRejections(nil))
	return path
}

const changesRefused = "nothing can be changed, as nothing past the pooler tells where it leads"

// TestDegradedIsWhoCanChangeNothing, though logins are answered: the way past the pooler is away; and who
// may ask nothing, as the pooler leads elsewhere.
func TestDegradedIsWhoCanChangeNothing(t *testing.T) {
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, server.Stop)
	pooler, err := servers.StartPgBouncer(server)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, pooler.Stop)
	past, err := servers.StartProxy("unix", filepath.Join(server.Dir(), ".s.PGSQL."+server.Port()))
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, past.Close)
	n := over(t, "[store]\nurl = '"+pooler.URL("postgres")+"'\ndirect_url = 'postgres://tokend@"+past.Addr()+"/postgres?sslmode=disable'\n")
	inBackground(t, func(ctx context.Context) { n.store.(shared).Watch(ctx, n.heard, nil) })
	expect := func(want string) {
		t.Helper()
		is := n.readiness(t.Context())
		for begun := time.Now(); is.String() != want && time.Since(begun) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
			is = n.readiness(t.Context())
		}
		if is.String() != want || is.status() != http.StatusOK {
			t.Errorf("it says %q, status %d, want %q", is, is.status(), want)
		}
	}
	expect("ready")
	past.Cut()
	expect("degraded: " + changesUnsaid + "; " + changesRefused + "; the log says more")
	past.Heal()
	expect("ready")
	other, err := server.NewDatabase(t.Context(), "template0")
	if err == nil {
		err = pooler.Lead("postgres", server, other)
	}
	if err != nil {
		t.Fatal(err)
	}
	var said string
	for begun := time.Now(); !strings.HasPrefix(said, "degraded: "+elsewhere+", and cached records are believed for 1") && time.Since(begun) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		said = n.readiness(t.Context()).String()
	}
	if !strings.HasPrefix(said, "degraded: "+elsewhere+", and cached records are believed for 1") {
		t.Errorf("led elsewhere, it says %q", said)
	}
	long := time.Now().Add(-time.Hour)
	n.storeSeen.Store(&long)
	if is := n.readiness(t.Context()); is.why() != "not ready: "+elsewhere || is.status() != http.StatusServiceUnavailable {
		t.Errorf("once nothing is believed, it says %q, status %d", is, is.status())
	}
}

// TestTheStoreThatAnswersIsWaitedFor: nobody has logged in since it hung, and it is slow.
func TestTheStoreThatAnswersIsWaitedFor(t *testing.T) {
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, server.Stop)
	way, err := servers.StartProxy("unix", filepath.Join(server.Dir(), ".s.PGSQL."+server.Port()))
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, way.Close)
	n := over(t, "[store]\nurl = 'postgres://tokend@"+way.Addr()+"/postgres?sslmode=disable'\n")
	secret := n.create(t)
	if err := n.ping(t.Context()); err != nil { // makes a connection
		t.Fatal(err)
	}
	way.Hang()
	for range 3 {
		n.check(t.Context(), secret)
	}
	way.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			return 0
		}
		return 150 * time.Millisecond
	})
	way.Heal()
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		asked := time.Now()
		if n.ping(t.Context()) == nil && time.Since(asked) < time.Second { // in a login's time
			break
		}
	}
	if got := n.check(t.Context(), secret); got != verify.OK {
		t.Errorf("it says %s", got)
	}
}

// TestDegradedIsWhoLacksTheCacheOrTheNews, and logins are answered all the same.
func TestDegradedIsWhoLacksTheCacheOrTheNews(t *testing.T) {
	n, redis := shares(t)
	expect := func(when string, weak ...string) {
		t.Helper()
		want := "ready"
		if weak != nil {
			want = "degraded: " + strings.Join(weak, "; ") + "; the log says more"
		}
		var got string
		for begun := time.Now(); got != want && time.Since(begun) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
			is := n.readiness(t.Context())
			if got = is.String(); is.status() != 200 || len(is.errs) != len(is.weak) {
				t.Fatalf("%s: status %d, and of %q the log tells %v", when, is.status(), got, is.errs)
			}
		}
		if got != want {
			t.Fatalf("%s: it says %q, want %q", when, got, want)
		}
		for dependency, is := range map[string]bool{
			"cache": !slices.Contains(weak, cacheIsUnused), "changes": !slices.Contains(weak, changesUnsaid), "store": true,
		} {
			if got := n.dependency(t, dependency); got != is {
				t.Errorf("%s: tokend_up_dependency of %s is %t", when, dependency, got)
			}
		}
	}
	expect("nothing has been asked", cacheIsUnused, changesUnsaid)
	inBackground(t, n.redis.Run)
	expect("the cache is there", changesUnsaid)
	noNews := inBackground(t, func(ctx context.Context) { n.store.(shared).Watch(ctx, n.heard, n.takeKeys) })
	expect("all is there")
	hold := func(most string) { // in bytes; 0: any number
		t.Helper()
		if _, err := redis.Exec(t.Context(), "CONFIG", "SET", "maxmemory", most); err != nil {
			t.Fatal(err)
		}
	}
	hold("1")
	n.check(t.Context(), n.create(t)) // finds out
	expect("the cache is full", cacheIsUnused)
	hold("0")
	expect("it has room again")
	noNews()
	expect("nobody listens any more", changesUnsaid)
	if err := redis.Kill(); err != nil {
		t.Fatal(err)
	}
	secret := n.create(t)
	for range 3 {
		n.check(t.Context(), secret) // finds out
	}
	expect("the cache is gone, too", cacheIsUnused, changesUnsaid)
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	if is := n.readiness(t.Context()); is.status() != http.StatusServiceUnavailable {
		t.Errorf("with neither a store nor a cache it is %s", is)
	}
}

// TestTheLogSaysWhenAllIsWellAgain, and when not, once, to whoever asks for /readyz meanwhile.
func TestTheLogSaysWhenAllIsWellAgain(t *testing.T) {
	n := assembled(t, "")
	path := n.listening(t)
	var log bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	ready := n.serveReady()
	expect := func(when string, bad, good int) {
		t.Helper()
		for range 2 {
			ready(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil))
		}
		if strings.Count(log.String(), "not all is well") != bad || strings.Count(log.String(), "all is well again") != good {
			t.Errorf("%s:\n%s", when, &log)
		}
	}
	database := strings.TrimPrefix(n.cfg.Store.URL, "sqlite:")
	expect("at the start", 0, 0)
	if err := os.Rename(database, database+".away"); err != nil {
		t.Fatal(err)
	}
	expect("without a database", 1, 0)
	if err := os.Rename(database+".away", database); err != nil {
		t.Fatal(err)
	}
	expect("with it", 1, 1)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	expect("without a socket", 2, 1)
	if err := os.Rename(database, database+".away"); err != nil {
		t.Fatal(err)
	}
	expect("without a database, too", 3, 1)
	if err := os.Rename(database+".away", database); err != nil {
		t.Fatal(err)
	}
	ends := make(chan struct{})
	close(ends)
	n.ends = ends
	expect("at the end, when the socket goes", 3, 1)
	answer := httptest.NewRecorder()
	ready(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if answer.Code != http.StatusServiceUnavailable || !strings.HasPrefix(answer.Body.String(), "not ready: the daemon ends") {
		t.Errorf("at the end, it says %d, %s", answer.Code, answer.Body)
	}
}

// TestTheLogTellsOnceThatTheStoreIsAwayAndOnceThatItIsBack, however often it is asked.
func TestTheLogTellsOnceThatTheStoreIsAwayAndOnceThatItIsBack(t *testing.T) {
	n := assembled(t, "")
	var log bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	const away, back = `level=WARN msg="the store does not answer" err=`, `level=INFO msg="the store answers again"`
	database := strings.TrimPrefix(n.cfg.Store.URL, "sqlite:")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for turn := range 3 {
		for range 3 {
			if err := n.ping(t.Context()); err != nil || !n.dependency(t, "store") {
				t.Errorf("turn %d: %v", turn, err)
			}
		}
		if strings.Count(log.String(), away) != turn || strings.Count(log.String(), back) != turn {
			t.Errorf("it was away %d times, and is there:\n%s", turn, &log)
		}
		move(database, database+".away")
		for range 3 {
			if err := n.ping(t.Context()); err == nil || n.dependency(t, "store") {
				t.Errorf("turn %d: away, %v", turn, err)
			}
		}
		if strings.Count(log.String(), away) != turn+1 || strings.Count(log.String(), back) != turn {
			t.Errorf("it is away for the %dth time:\n%s", turn+1, &log)
		}
		move(database+".away", database)
	}
}

// TestAllAreAskedAtTheSameTime: two that hang cost no more than one.
func TestAllAreAskedAtTheSameTime(t *testing.T) {
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, server.Stop)
	ways := make([]*servers.Proxy, 2)
	for i := range ways {
		if ways[i], err = servers.StartProxy("unix", filepath.Join(server.Dir(), ".s.PGSQL."+server.Port())); err != nil {
			t.Fatal(err)
		}
		atEnd(t, ways[i].Close)
	}
	site := knoxtest.New(t, server, "sodar-1.3")
	to := func(role, database string, way *servers.Proxy) string {
		return "postgres://" + role + "@" + way.Addr() + "/" + database + "?sslmode=disable"
	}
	n := over(t, "[store]\nurl = '"+to("tokend", "postgres", ways[0])+"'\n[knox]\nurl = '"+to(site.Role, site.Database(), ways[1])+"'\n")
	if err := errors.Join(n.ping(t.Context()), n.pingKnox(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		way.Hang()
	}
	begun := time.Now()
	said := n.readiness(t.Context()).String()
	if took := time.Since(begun); took > readyTimeout+time.Second/2 {
		t.Errorf("it takes %s", took)
	}
	for _, want := range []string{"the store does not answer", "the database of Knox cannot be asked"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q", said)
		}
	}
}
