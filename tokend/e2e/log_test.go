package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/pamhelper/wire"
	"tokend/tokend/e2e/rig"
)

// logged runs a daemon whose log goes into a pipe.
func logged(t *testing.T) (site *rig.Site, daemon *rig.Daemon, log *os.File) {
	t.Helper()
	site = newSite(t)
	log, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	cmd := exec.Command("sh", "-c", `exec "$0" serve --config "$1" 2>&3`, site.Tokend(), site.Config())
	cmd.ExtraFiles = []*os.File{to}
	if daemon, err = site.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return site, daemon, log
}

// TestLogThatNobodyReadsHoldsNoLoginUp asks more often than the pipe has room for
// verdicts, and then reads them.
func TestLogThatNobodyReadsHoldsNoLoginUp(t *testing.T) {
	site, daemon, log := logged(t)
	good := fill(t, site)
	if answer, err := site.AskAsIRODS(t.Context(), "alice", good); err != nil || !answer.OK() {
		t.Errorf("got %+v, %v", answer, err)
	}
	tokend(t, site, good, "token", "revoke", "--secret", "-")
	// It is read again.
	var mu sync.Mutex
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			mu.Lock()
			text.WriteString(lines.Text() + "\n")
			mu.Unlock()
		}
	}()
	says := func(what string) bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(text.String(), what)
	}
	for deadline := time.Now().Add(20 * time.Second); !says("lines of the log are missing here"); {
		if got := exchange(t, site, good); got != "NO revoked" {
			t.Fatalf("after the revocation: got %q", got)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say what it lacks:\n%s", last(text.String(), 1000))
		}
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	<-done
	if !says("tokend ends") {
		t.Errorf("the log does not say how the daemon ended:\n%s", last(text.String(), 1000))
	}
}

// fill asks so often that the log's pipe and the daemon's queue are full, and
// returns alice's secret.
func fill(t *testing.T, site *rig.Site) (good string) {
	t.Helper()
	good = create(t, site, "alice", "never")
	for range 2000 {
		if got := exchange(t, site, good); got != "OK" {
			t.Fatalf("got %q", got)
		}
	}
	return good
}

// TestDaemonEndsThoughNobodyReadsItsLog: Stop waits for a while only, and wants a
// clean end.
func TestDaemonEndsThoughNobodyReadsItsLog(t *testing.T) {
	site, daemon, _ := logged(t)
	fill(t, site)
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestFilesThatMayNotGrowStopNoLogin: neither the log nor the database may be larger
// than the process's limit.
func TestFilesThatMayNotGrowStopNoLogin(t *testing.T) {
	site := newSite(t)
	daemon, err := site.Launch(exec.Command("prlimit", "--fsize=200000:200000", site.Tokend(), "serve", "--config", site.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	good := create(t, site, "alice", "never")
	for tries := 0; err == nil; tries++ {
		if tries == 1000 {
			t.Fatal("the limit is never reached")
		}
		_, err = site.Run(t.Context(), "", "token", "create", "--user", "u"+strconv.Itoa(tries))
	}
	if !strings.Contains(err.Error(), "look-ups go on") {
		t.Errorf("got %v", err)
	}
	for range 2000 { // until the log is full as well
		if got := exchange(t, site, good); got != "OK" {
			t.Fatalf("got %q", got)
		}
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// exchange asks for alice without a helper, which is quicker.
func exchange(t *testing.T, site *rig.Site, secret string) string {
	t.Helper()
	conn, err := net.Dial("unix", site.AuthSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(giveUp)); err != nil {
		t.Fatal(err)
	}
	request := wire.Request{Login: []byte("alice"), Secret: []byte(secret)}
	if _, err := request.WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(conn)
	if err != nil || len(reply) < 2 {
		t.Fatalf("got %q, %v", reply, err)
	}
	return string(reply[2:])
}

func TestDaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	site, daemon, log := logged(t)
	good := create(t, site, "alice", "never")
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer, err := site.AskAsIRODS(t.Context(), "alice", good); err != nil || !answer.OK() {
			t.Fatalf("got %+v, %v", answer, err)
		}
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestLinesOfTheLogAreForMachines: each is JSON, a verdict has all that an admin
// asks for, and a duration has its unit.
func TestLinesOfTheLogAreForMachines(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	if _, err := site.AskAsIRODS(t.Context(), "bob", good); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(site.Log())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("this is no JSON: %s", line)
		}
	}
	const want = `"msg":"verdict","user":"bob","outcome":"no","reason":"wrong-user","token":"[0-9a-z]{12}","took":"[0-9.]+(µs|ms|s)","detail":"the token is alice's"}`
	if !regexp.MustCompile(want).Match(text) {
		t.Errorf("no line like %s:\n%s", want, text)
	}
}
