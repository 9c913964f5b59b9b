package e2e

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// state is what a daemon holds.
type state struct{ goroutines, descriptors int }

// stateOf reads it from /metrics.
func stateOf(t *testing.T, metrics string) state {
	t.Helper()
	values := scrape(t, metrics)
	return state{int(values["go_goroutines"]), int(values["process_open_fds"])}
}

// settle waits until the daemon holds no more than it did.
func settle(t *testing.T, metrics string, before state) {
	t.Helper()
	const kept = 2  // descriptors of connections to the database, once they were needed; each input comes three times
	const idle = 64 // goroutines wait for the next connections, after many at once
	deadline := time.Now().Add(10 * time.Second)
	for {
		now := stateOf(t, metrics)
		if now.goroutines <= before.goroutines+kept+idle && now.descriptors <= before.descriptors+kept {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon holds %+v, before it was %+v", now, before)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// uncollected keeps Go from closing what the daemon has forgotten to close.
const uncollected = "GOGC=off"

func TestHostileInputIsAPlainNo(t *testing.T) {
	site, _, metrics := observed(t, uncollected)
	made := createTokens(t, site)
	before := stateOf(t, metrics)
	long := strings.Repeat("x", 1_000_000)
	for _, c := range []struct{ name, user, password string }{
		{"a million bytes", "alice", long},
		{"a million bytes behind the token", "alice", made.good + long},
		{"NUL first", "alice", "\x00" + made.good},
		{"invalid UTF-8", "alice", "irt_\xff\xfe\xc0\xaf"},
		{"newline first", "alice", "\n" + made.good},
		{"newline inside", "alice", made.good[:20] + "\n" + made.good[20:]},
		{"NUL inside", "alice", made.good[:20] + "\x00" + made.good[20:]},
		{"1024 bytes", "alice", long[:1024]},
		{"1025 bytes", "alice", long[:1025]},
		{"a digest for a secret", "alice", strings.Repeat("0123456789abcdef", 8)},
		{"shell text", "alice", "$(id); `id`; ' OR 1=1 --"},
		{"name of 64", strings.Repeat("a", 64), made.good},
		{"name of 10,000", strings.Repeat("a", 10_000), made.good},
		{"name with zone", "alice#tempZone", made.good},
		{"control characters", "alice\r\n\x1b[2J\x07", made.good},
		{"invalid UTF-8 in the name", "\xff\xfe\xc0\xaf", made.good},
		{"SQL in the name", "alice' OR '1'='1", made.good},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 3 { // so that what one leaves behind is noticed
				r := agent{user: &c.user, password: c.password}.run(t, site)
				wantNo(t, r)
				within(t, r.took, giveUp)
			}
		})
	}
	settle(t, metrics, before)
	user := "alice"
	wantYes(t, agent{user: &user, password: made.good}.run(t, site))
}

func TestHostileConnectionsLeaveNoTrace(t *testing.T) {
	site, _, metrics := observed(t, uncollected)
	good := create(t, site, "alice", "never")
	before := stateOf(t, metrics)
	field := func(n int, text string) string {
		return string(binary.BigEndian.AppendUint16(nil, uint16(n))) + text
	}
	whole := field(5, "alice") + field(len(good), good) + field(5, "irods") + field(0, "")
	t.Run("at once", func(t *testing.T) {
		for _, c := range []struct{ name, sent, want string }{
			{"nothing", "", ""},
			{"one byte", "\x00", ""},
			{"half a request", whole[:30], ""},
			{"all but a byte", whole[:len(whole)-1], ""},
			{"a field longer than it says", field(3, "alice") + field(len(good), good), "NO malformed"},
			{"a field shorter than it says", field(60, "alice") + field(len(good), good) + field(0, ""), ""},
			{"a field of 65535", field(65535, "alice"), "NO malformed"},
			{"a field of 1025", field(1025, strings.Repeat("a", 1025)), "NO malformed"},
			{"no fields, only noise", strings.Repeat("\xff", 100_000), "NO malformed"},
			{"an HTTP request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "NO malformed"},
			{"more behind the request", whole + strings.Repeat("x", 5000), "OK"},
			{"empty fields", strings.Repeat(field(0, ""), 4), "NO malformed"},
		} {
			for range 3 { // so that what one leaves behind is noticed
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					conn, err := net.Dial("unix", site.AuthSocket())
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					_, _ = conn.Write([]byte(c.sent)) // it may hang up while we write
					if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
						t.Fatal(err)
					}
					begun := time.Now()
					reply := make([]byte, 300)
					n, err := conn.Read(reply)
					if n < 2 {
						t.Fatalf("%d bytes and %v after %s", n, err, time.Since(begun))
					}
					got, want := string(reply[2:n]), c.want
					if want == "" { // silence: cut after the deadline with a no
						want = "NO malformed"
						within(t, time.Since(begun), 4*time.Second)
					}
					if got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			}
		}
		t.Run("many silent ones hold nobody up", func(t *testing.T) {
			t.Parallel()
			for range 300 {
				conn, err := net.Dial("unix", site.AuthSocket())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			user := "alice"
			wantYes(t, agent{user: &user, password: good}.run(t, site))
		})
	})
	settle(t, metrics, before)
}

// TestTooManyAtOnceAreTurnedAway, told so and counted, and then it is as before.
func TestTooManyAtOnceAreTurnedAway(t *testing.T) {
	site, _, metrics := observed(t)
	good := create(t, site, "alice", "never")
	before := stateOf(t, metrics)
	busy := 0
	var conns []net.Conn
	for range 1100 { // 76 more than there may be
		conn, err := net.Dial("unix", site.AuthSocket())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	if err := conns[1099].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if reply, err := io.ReadAll(conns[1099]); string(reply) != "\x00\x07NO busy" {
		t.Errorf("the last one got %q, %v", reply, err)
	}
	for deadline := time.Now().Add(10 * time.Second); busy == 0 && time.Now().Before(deadline); {
		busy = int(scrape(t, metrics)[`tokend_connections_rejected_total{reason="busy"}`])
	}
	if busy == 0 || busy > 76 {
		t.Errorf("%d were turned away", busy)
	}
	user := "alice"
	wantYes(t, agent{user: &user, password: good}.run(t, site)) // it asks again until there is room
	for _, conn := range conns {
		_ = conn.Close()
	}
	settle(t, metrics, before)
}

func TestStrangerLearnsNothing(t *testing.T) {
	site, _, metrics := observed(t)
	good := create(t, site, "alice", "never")
	const stranger = "12346"
	for _, path := range []string{site.AuthSocket(), site.AdminSocket()} {
		if err := os.Chmod(path, 0o666); err != nil { // let the daemon itself refuse
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, *exec.Cmd) {
		cmd := asRoot(t, append([]string{"setpriv", "--reuid", stranger, "--regid", stranger, "--clear-groups"}, args...)...)
		cmd.Stdin = strings.NewReader(good)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd
	}
	begun := time.Now()
	if out, cmd := run(site.Checker(), "alice"); cmd.ProcessState.ExitCode() != 1 || out != "Not Authenticated\n" {
		t.Errorf("helper: %v %s", cmd.ProcessState, out)
	}
	within(t, time.Since(begun), giveUp+time.Second)
	out, cmd := run(site.Tokend(), "token", "list", "--admin-socket", site.AdminSocket())
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out, "uid "+stranger+" is not among [admin] peers") {
		t.Errorf("token list: %v %s", cmd.ProcessState, out)
	}
	for range 20 { // the daemon may hang up before or after it was asked
		out, cmd = run(site.Tokend(), "user", "disable", "alice", "--admin-socket", site.AdminSocket())
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out, "may have done it all the same") || strings.Count(out, "\n") != 1 {
			t.Errorf("user disable: %v %s", cmd.ProcessState, out)
		}
	}
	if got := scrape(t, metrics)[`tokend_connections_rejected_total{reason="peer"}`]; got < 2 {
		t.Errorf("%v connections are counted as refused", got)
	}
	if lines, err := site.Verdicts(); err != nil || len(lines) > 0 {
		t.Errorf("there were verdicts: %v %v", lines, err)
	}
}

// TestSocketsAreForTheirPeersOnly looks at the modes: where only the daemon's
// own user and root may ask, nobody else can connect.
func TestSocketsAreForTheirPeersOnly(t *testing.T) {
	site, _ := running(t)
	for _, path := range []string{site.AuthSocket(), site.AdminSocket()} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o", path, got)
		}
	}
}

// TestTwoHundredHelpersAtOnce: ten rounds, all right answers, none wrong, none
// lost.
func TestTwoHundredHelpersAtOnce(t *testing.T) {
	site, _ := running(t)
	made := createTokens(t, site)
	kinds := []struct {
		user, password string
		yes            bool
	}{
		{"alice", made.good, true}, {"bob", made.bobs, true},
		{"alice", rig.Typo(made.good), false}, {"bob", made.good, false},
		{"alice", made.expired, false}, {"alice", made.revoked, false}, {"carol", made.disabled, false},
	}
	for round := range 10 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			var all sync.WaitGroup
			for i := range 200 {
				kind := kinds[i%len(kinds)]
				all.Go(func() {
					answer, err := site.AskAsIRODS(t.Context(), kind.user, kind.password)
					if err != nil || answer.OK() != kind.yes || !answer.Plain() {
						t.Errorf("%s: %+v, %v", kind.user, answer, err)
					}
				})
			}
			all.Wait()
		})
	}
	lines, err := site.Verdicts()
	if err != nil || len(lines) != 2000 {
		t.Errorf("%d verdicts are in the log, want 2000 (%v)", len(lines), err)
	}
}
