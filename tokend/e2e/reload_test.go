package e2e

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"tokend/tokend/e2e/rig"
)

// hangup sends SIGHUP and waits until the log says what came of it.
func hangup(t *testing.T, site *rig.Site, daemon *rig.Daemon, want string) {
	t.Helper()
	before, err := os.ReadFile(site.Log())
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, len(before), want)
}

// waitForLog waits until the log says the words behind its first so many bytes.
func waitForLog(t *testing.T, site *rig.Site, behind int, want string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		log, err := os.ReadFile(site.Log())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(log[behind:]), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log lacks %q:\n%s", want, log[behind:])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestSIGHUPNeverEndsTheDaemon sends one while the configuration is read for the
// first time: it is read once more as soon as the daemon serves.
func TestSIGHUPNeverEndsTheDaemon(t *testing.T) {
	site := newSite(t)
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	ready := write(t, site, "ready.toml", string(text))
	if err := os.Remove(site.Config()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(site.Config(), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon, err := site.Launch(exec.Command(site.Tokend(), "serve", "--config", site.Config()))
	if err != nil {
		t.Fatal(err)
	}
	slow, err := os.OpenFile(site.Config(), os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(daemon.Signal(syscall.SIGHUP), os.Rename(ready, site.Config())); err != nil {
		t.Fatal(err)
	}
	_, err = slow.Write(text)
	if err := errors.Join(err, slow.Close(), daemon.Wait(t.Context())); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, 0, "configuration reloaded")
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestSIGTERMBeforeItServesIsNoFailure: it waits for its configuration, or for its
// database.
func TestSIGTERMBeforeItServesIsNoFailure(t *testing.T) {
	site := newSite(t)
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	daemon, err := site.Start(t.Context()) // makes the database
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(daemon.Stop(), os.Remove(site.Config()), syscall.Mkfifo(site.Config(), 0o600)); err != nil {
		t.Fatal(err)
	}
	launch := func() *rig.Daemon {
		t.Helper()
		daemon, err := site.Launch(exec.Command(site.Tokend(), "serve", "--config", site.Config()))
		if err != nil {
			t.Fatal(err)
		}
		return daemon
	}
	daemon = launch()
	pipe, err := os.OpenFile(site.Config(), os.O_WRONLY, 0) // waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Stop(); err != nil {
		t.Errorf("while it waits for its configuration: %v", err)
	}
	if err := errors.Join(pipe.Close(), os.Remove(site.Config())); err != nil {
		t.Fatal(err)
	}
	write(t, site, "tokend.toml", string(text))

	database, err := sql.Open("sqlite", site.Path("state/tokend.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	for _, statement := range []string{"PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"} {
		if _, err := database.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	daemon = launch()
	time.Sleep(500 * time.Millisecond)
	if err := daemon.Stop(); err != nil {
		t.Errorf("while it waits for its database: %v", err)
	}
}

// TestReloadTakesOverEveryKeyThatItCan and, once taken over, doesn't tell of it
// again.
func TestReloadTakesOverEveryKeyThatItCan(t *testing.T) {
	site, daemon := running(t)
	own := peersLine(t, site)
	for range 2 { // of the auth socket, and of the admin socket
		reconfigure(t, site, own, strings.Replace(own, "[", "[\"54321\", ", 1))
	}
	reconfigure(t, site, `level = "debug"`, `level = "info"`)
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	write(t, site, "tokend.toml", string(text)+`[cache]
ttl = "1s"
stale = "0s"
[tokens]
default_expiry = "2h"
max_expiry = "3h"
max_per_user = 1
`)
	hangup(t, site, daemon, `"changed":"auth.peers admin.peers cache.ttl cache.stale tokens.default_expiry tokens.max_expiry tokens.max_per_user log.level"`)
	hangup(t, site, daemon, `"changed":"nothing"`)
	if list := tokend(t, site, "", "token", "create", "--user", "alice", "--json"); strings.Contains(list, `"expires": null`) {
		t.Errorf("the default expiry is not in force:\n%s", list)
	}
	if _, err := site.Run(t.Context(), "", "token", "create", "--user", "alice"); err == nil || !strings.Contains(err.Error(), "are active, 1 are allowed") {
		t.Errorf("a second token: %v", err)
	}
	before, err := os.ReadFile(site.Log())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", site.AuthSocket()) // who hangs up without a question is told of at debug level
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, len(before), "request refused: it did not come whole")
	waitForLog(t, site, len(before), fmt.Sprintf(`"peer":"uid=%d`, os.Getuid())) // and who it was
	if log, err := os.ReadFile(site.Log()); err != nil || strings.Contains(string(log[len(before):]), `"level":"DEBUG"`) {
		t.Errorf("it still logs at debug level (%v)", err)
	}
}

// TestConfigurationThatHangsIsLeftBehind: at a reload it has become a pipe that
// nobody writes to.
func TestConfigurationThatHangsIsLeftBehind(t *testing.T) {
	site, daemon := running(t)
	good := create(t, site, "alice", "never")
	if err := errors.Join(os.Remove(site.Config()), syscall.Mkfifo(site.Config(), 0o600)); err != nil {
		t.Fatal(err)
	}
	hangup(t, site, daemon, "configuration not reloaded")
	user := "alice"
	wantYes(t, agent{user: &user, password: good}.run(t, site))
	// The next reload, and the end of the daemon, do not wait for it either.
	if err := errors.Join(os.Remove(site.Config()), site.WriteConfig("")); err != nil {
		t.Fatal(err)
	}
	hangup(t, site, daemon, "configuration reloaded")
}

func reconfigure(t *testing.T, site *rig.Site, old, new string) {
	t.Helper()
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), old, new, 1)
	if changed == string(text) {
		t.Fatalf("the configuration has no %q", old)
	}
	write(t, site, "tokend.toml", changed)
}

func TestSIGHUPTakesOverWhatItCanAndSaysWhatItCannot(t *testing.T) {
	site, daemon := running(t, "[tokens]", `max_expiry = "0"`, "max_per_user = 2")
	good := create(t, site, "alice", "never")
	user := "alice"
	wantYes(t, agent{user: &user, password: good}.run(t, site))

	// A limit holds for what was made before, too, at the next login.
	reconfigure(t, site, `max_expiry = "0"`, `max_expiry = "1s"`)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(2 * time.Second)))
	hangup(t, site, daemon, `"changed":"tokens.default_expiry tokens.max_expiry"`)
	wantNo(t, agent{user: &user, password: good}.run(t, site))
	if got := lastReason(t, site); got != "expired" {
		t.Errorf("the log says %s", got)
	}
	if _, err := site.Run(t.Context(), "", "token", "create", "--user", "alice", "--expires", "never"); err == nil || !strings.Contains(err.Error(), "more than this site allows: at most 1s") {
		t.Errorf("a token that never expires: %v", err)
	}
	reconfigure(t, site, `max_expiry = "1s"`, `max_expiry = "0"`)
	hangup(t, site, daemon, "configuration reloaded")
	wantYes(t, agent{user: &user, password: good}.run(t, site))

	// Peers change for connections from now on.
	reconfigure(t, site, "[auth]\n", "[auth]\n#") // keep the socket
	reconfigure(t, site, "#socket", "socket")
	own := peersLine(t, site)
	reconfigure(t, site, own, `peers = ["54321"]`)
	hangup(t, site, daemon, `"changed":"auth.peers"`)
	wantNo(t, agent{user: &user, password: good}.run(t, site))
	wantMode(t, site.AuthSocket(), 0o660) // with an access rule, or the new peer could not even connect
	reconfigure(t, site, `peers = ["54321"]`, own)
	hangup(t, site, daemon, "configuration reloaded")
	wantYes(t, agent{user: &user, password: good}.run(t, site))
	wantMode(t, site.AuthSocket(), 0o600)

	// What can't change is named, and the rest is taken over.
	reconfigure(t, site, site.AuthSocket(), site.AuthSocket()+"2")
	hangup(t, site, daemon, `"keys":"auth.socket"`)
	reconfigure(t, site, site.AuthSocket()+"2", site.AuthSocket())

	// A mistake changes nothing.
	reconfigure(t, site, "max_per_user", "max_per_usr")
	hangup(t, site, daemon, `did you mean \"max_per_user\"?`)
	wantYes(t, agent{user: &user, password: good}.run(t, site))
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("%s has mode %v, want %o (%v)", path, info.Mode(), want, err)
	}
}

func peersLine(t *testing.T, site *rig.Site) string {
	t.Helper()
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "peers") {
			return strings.TrimSpace(line)
		}
	}
	t.Fatal("no peers")
	return ""
}

func TestLimitsHoldWhenATokenIsMade(t *testing.T) {
	site, _ := running(t, "[tokens]", `default_expiry = "12h"`, `max_expiry = "30d"`, "max_per_user = 2")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--user", "alice", "--expires", "31d"}, "an expiry of 31d is more than this site allows: at most 30d"},
		{[]string{"--user", "alice", "--expires", "never"}, "an expiry of never is more than this site allows: at most 30d"},
		{[]string{"--user", "alice", "--expires", "0"}, "an expiry of never is more than this site allows: at most 30d"},
		{[]string{"--user", "alice", "--expires", "100000000"}, "lies past the year 9999"},
		{[]string{"--user", "alice", "--expires", "soon"}, `"soon" is no expiry: write hours (24)`},
		{[]string{"--user", "alice", "--expires", "-1"}, `"-1" is no expiry`},
		{[]string{"--user", "a#b"}, "is no iRODS user name"},
		{[]string{"--user", "."}, "is no iRODS user name"},
		{[]string{"--user", strings.Repeat("a", 64)}, "is no iRODS user name"},
		{[]string{"--user", "alice", "--label", strings.Repeat("ü", 257)}, "the label has 257 characters"},
		{[]string{"--user", "alice", "--label", "a\nb"}, "control character"},
	} {
		_, err := site.Run(t.Context(), "", append([]string{"token", "create"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: got %v, want %q", c.args, err, c.want)
		}
	}
	for range 2 {
		tokend(t, site, "", "token", "create", "--user", "alice", "--label", strings.Repeat("ü", 256))
	}
	if _, err := site.Run(t.Context(), "", "token", "create", "--user", "alice"); err == nil || !strings.Contains(err.Error(), "2 are active, 2 are allowed") {
		t.Errorf("a third token: %v", err)
	}
	if list := tokend(t, site, "", "token", "list"); strings.Count(list, "(in 12 hours)") != 2 {
		t.Errorf("the default expiry is not 12 hours:\n%s", list)
	}
}

// TestWhoIsNoLongerAPeerIsCutOff keeps a connection open over the reload.
func TestWhoIsNoLongerAPeerIsCutOff(t *testing.T) {
	site, daemon := running(t)
	conn, err := net.Dial("unix", site.AdminSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	ask := func() error {
		t.Helper()
		if _, err := io.WriteString(conn, "GET /api/v1/users HTTP/1.1\r\nHost: tokend\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		reply, err := http.ReadResponse(replies, nil)
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		_, err = io.Copy(io.Discard, reply.Body)
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	own := peersLine(t, site)
	reconfigure(t, site, own, "#"+own)
	reconfigure(t, site, "\n"+own, "\npeers = [\"54321\"]")
	hangup(t, site, daemon, "configuration reloaded")
	if err := ask(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestConfigurationThatVanishesLiftsNoLimit: a reload comes while it is being
// replaced.
func TestConfigurationThatVanishesLiftsNoLimit(t *testing.T) {
	site, daemon := running(t, "[tokens]", `max_expiry = "1s"`)
	create(t, site, "alice", "1s")
	for _, vanish := range []func(string) error{os.Remove, func(path string) error { return os.WriteFile(path, nil, 0o600) }} {
		if err := vanish(site.Config()); err != nil {
			t.Fatal(err)
		}
		hangup(t, site, daemon, "is empty or gone; for the defaults, start tokend again")
		if _, err := site.Run(t.Context(), "", "token", "create", "--user", "alice", "--expires", "never"); err == nil {
			t.Error("the limit is lifted")
		}
	}
	if err := site.WriteConfig("", "[tokens]", `max_expiry = "2s"`); err != nil {
		t.Fatal(err)
	}
	hangup(t, site, daemon, `"changed":"tokens.default_expiry tokens.max_expiry"`)
}
