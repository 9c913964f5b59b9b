package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/pamhelper/wire"
)

// TestHelperNeedsNextToNothing takes away what a Go program would miss.
func TestHelperNeedsNextToNothing(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	for _, limits := range [][]string{
		{"--as=4000000"}, {"--nproc=1"}, {"--data=1000000"}, {"--stack=65536"}, {"--nofile=4"}, {"--fsize=0"}, {"--memlock=0"}, {"--sigpending=0"}, {"--cpu=1"},
	} {
		args := append(slices.Clone(limits), "--", site.Helper())
		cmd := exec.CommandContext(t.Context(), "prlimit", args...)
		cmd.Stdin, cmd.Env = strings.NewReader(good), []string{"PAM_USER=alice", "PATH=" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("prlimit %v: %v %s", limits, err, out)
		}
	}
	for _, closed := range []string{"<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", site.Helper()+" "+closed)
		cmd.Stdin, cmd.Env = strings.NewReader(good), []string{"PAM_USER=alice"}
		err := cmd.Run()
		if yes := err == nil; yes == strings.Contains(closed, "<&-") || cmd.ProcessState.ExitCode() > 1 {
			t.Errorf("with %s: %v", closed, err)
		}
	}
}

func TestHelperDropsTheEffectiveUser(t *testing.T) {
	const irods = 12345
	site := newSite(t)
	config, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("peers = [\"%d\"]", os.Getuid())
	text := strings.Replace(string(config), own, fmt.Sprintf("peers = [\"%d\"]", irods), 1)
	write(t, site, "tokend.toml", text)
	start(t, site)
	good := create(t, site, "alice", "never")
	run := func(uid string) error {
		cmd := asRoot(t, built.Path("setuid"), uid, uid, site.Checker(), "alice")
		cmd.Stdin = strings.NewReader(good)
		return cmd.Run()
	}
	if err := run(fmt.Sprint(irods)); err != nil {
		t.Errorf("real user irods, effective user root: %v", err)
	}
	if err := run("12346"); err == nil {
		t.Error("somebody else, effective user root: a yes")
	}
	// All of its IDs are the real ones, the saved ones too.
	cmd := asRoot(t, built.Path("setuid"), fmt.Sprint(irods), fmt.Sprint(irods), site.Checker(), "alice")
	secret, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := strings.Repeat(fmt.Sprintf("\t%d", irods), 4) + "\n"
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		status := statusOf(t, site.Checker())
		if strings.Contains(status, "\nUid:"+all) && strings.Contains(status, "\nGid:"+all) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("while it waits for its secret:\n%s", status)
		}
	}
	if _, err := io.WriteString(secret, good); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(secret.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}

// statusOf is what the kernel says of the process that runs the program, or
// nothing.
func statusOf(t *testing.T, program string) string {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		line, _ := os.ReadFile(folder + "/cmdline") // it may have ended
		if name, _, _ := strings.Cut(string(line), "\x00"); name == program {
			status, _ := os.ReadFile(folder + "/status")
			return string(status)
		}
	}
	return ""
}

// asRoot is a command as root, with sudo where need be.
func asRoot(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		args = append([]string{"sudo", "-n"}, args...)
	}
	return exec.CommandContext(t.Context(), args[0], args[1:]...)
}

func TestHelperTellsSyslogWhyAndNeverTheSecret(t *testing.T) {
	site, _ := running(t)
	made := createTokens(t, site)
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: site.Syslog(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, c := range []struct {
		user, password, want string
	}{
		{"alice", made.expired, `<85>irodsPamAuthCheck[PID]: refused "alice", tokend says: expired`},
		{"bob", made.good, `<85>irodsPamAuthCheck[PID]: refused "bob", tokend says: wrong-user`},
		{"al\nice\"\\", made.good, `<85>irodsPamAuthCheck[PID]: refused "al\x0aice\x22\x5c", tokend says: wrong-user`},
		{"alice", "", `<83>irodsPamAuthCheck[PID]: refused "alice": the secret is empty`},
		{"alice", strings.Repeat("x", 1024) + "\r\n", `<85>irodsPamAuthCheck[PID]: refused "alice", tokend says: malformed`},
		{"alice", strings.Repeat("x", 1025), `<83>irodsPamAuthCheck[PID]: refused "alice": the secret is longer than 1024 bytes`},
		{strings.Repeat("a.", 35), made.good, `<85>irodsPamAuthCheck[PID]: refused "` + strings.Repeat("a.", 32) + `...", tokend says: wrong-user`},
	} {
		r := agent{user: &c.user, password: c.password}.run(t, site)
		wantNo(t, r)
		if err := log.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 2048)
		n, err := log.Read(buffer)
		if err != nil {
			t.Fatalf("%.20q: %v", c.user, err)
		}
		got := regexp.MustCompile(`\[\d+\]`).ReplaceAllString(string(buffer[:n]), "[PID]")
		if got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	// Nobody reads: the login goes on.
	user := "alice"
	for range 300 {
		wantNo(t, agent{user: &user, password: "x"}.run(t, site)) // by itself, not by its hard limit
	}
	wantYes(t, agent{user: &user, password: made.good}.run(t, site))
}

// TestHelperNamesTheSocketWhereItGotNoAnswer: the daemon may be well, and the path
// mistyped.
func TestHelperNamesTheSocketWhereItGotNoAnswer(t *testing.T) {
	site := newSite(t)
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: site.Syslog(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(t.Context(), site.Helper(), "--socket", "/no/such\nsocket")
	cmd.Env, cmd.Stdin = []string{"PAM_USER=alice"}, strings.NewReader("secret")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	const want = `: refused "alice": nobody listens on the socket: is tokend running? (asked at "/no/such\x0asocket")`
	if got := string(datagram(t, log)); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHelperTellsAPersonAtATerminalAndNobodyElse(t *testing.T) {
	site, _ := running(t)
	if answer, err := site.AskAsIRODS(t.Context(), "alice", "wrong"); err != nil || answer.OK() || answer.Stderr != "" {
		t.Errorf("without a terminal: %+v, %v", answer, err)
	}
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "echo wrong | "+site.Checker()+" alice", "/dev/null")
	out, _ := cmd.CombinedOutput() // the status is the helper's
	if text := string(out); !strings.Contains(text, `refused "alice", tokend says: malformed`) || !strings.Contains(text, "Not Authenticated") {
		t.Errorf("it said %q", text)
	}
}

// TestHelperEscapesWhatTheDaemonSays: whoever answers on the socket forges no line
// of the log, and sends nothing to a terminal.
func TestHelperEscapesWhatTheDaemonSays(t *testing.T) {
	site := newSite(t)
	listener, err := net.Listen("unix", site.AuthSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			_, _ = conn.Write(wire.EncodeReply(false, "evil\nline\x1b[31m"))
			_ = conn.Close()
		}
	}()
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: site.Syslog(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "echo secret | "+site.Checker()+" alice", "/dev/null")
	shown, _ := cmd.CombinedOutput() // the status is the helper's
	if err := log.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	n, err := log.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	const want = `]: refused "alice", tokend says: evil\x0aline\x1b[31m`
	if got := string(buffer[:n]); !strings.HasSuffix(got, want) {
		t.Errorf("the log was told %q, want %s", got, want)
	}
	if !strings.Contains(string(shown), want+"\r\n") {
		t.Errorf("the terminal got %q, want %s", shown, want)
	}
}

// TestASecretThatIsTooLongIsReadToItsEnd: an agent that could not write all of it
// would fail in another way.
func TestASecretThatIsTooLongIsReadToItsEnd(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	for _, filler := range []int{1025, 1026, 2052} { // what is left behind it is none
		cmd := exec.CommandContext(t.Context(), site.Checker(), "alice")
		cmd.Stdin = strings.NewReader(strings.Repeat("x", filler) + good)
		if out, err := cmd.Output(); err == nil || string(out) != "Not Authenticated\n" {
			t.Errorf("behind %d bytes: %q, %v", filler, out, err)
		}
	}
	cmd := exec.CommandContext(t.Context(), site.Checker(), "alice")
	var stdout strings.Builder
	cmd.Stdout = &stdout
	secret, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(secret, strings.Repeat("x", 1_000_000)); err != nil {
		t.Errorf("who wrote it was told: %v", err)
	}
	_ = secret.Close()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || stdout.String() != "Not Authenticated\n" {
		t.Errorf("it ended with %v and %q", err, &stdout)
	}
}

// TestHelperTellsALogThatIsAStream, as some syslog daemons have it.
func TestHelperTellsALogThatIsAStream(t *testing.T) {
	site, _ := running(t)
	log, err := net.ListenUnix("unix", &net.UnixAddr{Name: site.Syslog(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	user := "alice"
	wantNo(t, agent{user: &user, password: "x"}.run(t, site))
	if err := log.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := log.Accept()
	if err != nil {
		t.Fatalf("syslog was told nothing: %v", err)
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	if got := string(text); err != nil || !strings.HasSuffix(got, "refused \"alice\", tokend says: malformed\x00") {
		t.Errorf("got %q, %v", got, err)
	}
	// Nobody accepts, and the queue is full: the login goes on.
	for range 5 {
		wantNo(t, agent{user: &user, password: "x"}.run(t, site))
	}
}

// TestHelperAnswersWhereItsUserHasNoNumber, as in a container whose maker gave it
// none: there it is nobody, for the daemon outside it is root.
func TestHelperAnswersWhereItsUserHasNoNumber(t *testing.T) {
	site := newSite(t)
	own := peersLine(t, site)
	reconfigure(t, site, own, strings.Replace(own, "[", `["root", "64001", `, 1)) // for whom the socket is open to all
	start(t, site)
	good := create(t, site, "alice", "never")
	cmd := asRoot(t, "unshare", "--user", site.Checker(), "alice")
	cmd.Stdin = strings.NewReader(good)
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "Authenticated\n" {
		t.Errorf("%v, %s", err, out)
	}
}
