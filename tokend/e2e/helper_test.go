package e2e

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// giveUp is how long a login may take at the very most.
const giveUp = 3 * time.Second

func TestHelperIsStaticAndUsesOnlyTheStandardLibraryAndWire(t *testing.T) {
	site := newSite(t)
	file, err := elf.Open(site.Helper())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("it needs %v", libraries)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a segment %s", p.Type)
		}
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "tokend/pamhelper").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"tokend/pamhelper/wire", "tokend/pamhelper"}) {
		t.Errorf("it is made of %v", got)
	}
	for _, unwanted := range []string{"net", "net/http", "os", "log", "log/slog", "os/exec"} {
		out, err := exec.Command("go", "list", "-f", "{{join .Imports \" \"}}", "tokend/pamhelper").Output()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(strings.Fields(string(out)), unwanted) {
			t.Errorf("it imports %s", unwanted)
		}
	}
}

// TestHelperNeverCallsIntoTheRuntime reads the machine code of what the helper
// runs. See the package comment of pamhelper for why.
func TestHelperNeverCallsIntoTheRuntime(t *testing.T) {
	harmless := regexp.MustCompile(`^(` + strings.Join([]string{
		`runtime\.(memmove|memequal|memclrNoHeapPointers|duffzero|duffcopy)(\.abi0)?`, // plain memory
		`runtime\.morestack(_noctxt)?(\.abi0)?`,                                       // the guard is 0: never taken
		`runtime\.panic(Bounds|Extend|divide|shift|unsafeslicelen|unsafeslicenilptr|unsafestringlen|unsafestringnilptr)(\.abi0)?`,
		`syscall\.(RawSyscall|RawSyscall6)(\.abi0)?`,
		`main\..*`, `tokend/pamhelper/wire\..*`,
	}, "|") + `)$`)
	called := regexp.MustCompile(`\b(?:CALL|JMP)\s+([A-Za-z_][^\s(]*(?:\([^)]*\))?[^\s(]*)\(SB\)`)
	for _, arch := range []string{"amd64", "arm64"} {
		site := newSite(t)
		path := site.Path("pamhelper-" + arch)
		if err := site.BuildHelper(t.Context(), path, arch); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("go", "tool", "objdump", "-s", `^(main\.|tokend/pamhelper/wire\.)`, path).Output()
		if err != nil {
			t.Fatal(err)
		}
		calls := called.FindAllStringSubmatch(string(out), -1)
		if len(calls) < 50 {
			t.Errorf("%s: only %d calls were found: objdump prints something else now", arch, len(calls))
		}
		for _, call := range calls {
			if !harmless.MatchString(call[1]) && !strings.HasPrefix(call[1], "main.") {
				t.Errorf("%s: it calls %s", arch, call[1])
			}
		}
	}
}

// TestMistakeInTheHelperIsANo builds one that runs past the end of an array,
// where Go would panic and exit with 2.
func TestMistakeInTheHelperIsANo(t *testing.T) {
	site, _ := running(t)
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "pamhelper", "start.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	mistake := strings.Replace(string(text), "	until := wire.Now() + softLimit\n",
		"	until := wire.Now() + softLimit\n	if x := arguments(stack); x.count > 0 {\n		noRuntime[x.count+200] = 1\n	}\n", 1)
	if mistake == string(text) {
		t.Fatal("start.go has changed: put the mistake elsewhere")
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: write(t, site, "start.go", mistake)}})
	if err != nil {
		t.Fatal(err)
	}
	broken := site.Path("broken")
	if err := site.BuildHelper(t.Context(), broken, "", "-overlay", write(t, site, "overlay.json", string(overlay))); err != nil {
		t.Fatal(err)
	}
	user := "alice"
	r := agent{path: broken, user: &user, password: create(t, site, "alice", "never")}.run(t, site)
	if r.status != 1<<8 || r.stdout != "" {
		t.Errorf("wait status %#x and %q, want 0x100 and not a word", int(r.status), r.stdout)
	}
}

func TestHelperBuiltWithoutItsEntryIsANo(t *testing.T) {
	site, _ := running(t)
	plain := site.Path(rig.CheckerName + "-plain")
	out, err := exec.Command("go", "build", "-o", plain, "tokend/pamhelper").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	user := "alice"
	r := agent{path: plain, user: &user, password: create(t, site, "alice", "never")}.run(t, site)
	if r.status != 1<<8 {
		t.Errorf("wait status %#x, want 0x100", int(r.status))
	}
}

func TestHelperOfTheOtherArchitectureAnswersToo(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Fatal("this test runs the arm64 helper in qemu's user mode; make it run the amd64 one here")
	}
	site, _ := running(t)
	made := createTokens(t, site)
	path := site.Path("pamhelper-arm64")
	if err := site.BuildHelper(t.Context(), path, "arm64"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, password string
		yes            bool
	}{{"alice", made.good, true}, {"bob", made.good, false}, {"alice", made.expired, false}, {"alice", strings.Repeat("x", 2000), false}} {
		cmd := exec.CommandContext(t.Context(), "qemu-aarch64-static", "-0", rig.CheckerName, path, c.user)
		cmd.Stdin = strings.NewReader(c.password)
		out, err := cmd.CombinedOutput()
		want := "Not Authenticated\n"
		if c.yes {
			want = "Authenticated\n"
		}
		if (err == nil) != c.yes || string(out) != want {
			t.Errorf("%s: %v, %s", c.user, err, out)
		}
	}
}

// TestEverySignalIsANo sends each signal to a helper that waits for its secret.
func TestEverySignalIsANo(t *testing.T) {
	site := newSite(t)
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		switch signal {
		case syscall.SIGKILL, syscall.SIGSTOP: // nobody can catch these
			continue
		case syscall.SIGPIPE, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH: // these end nothing
			continue
		case 32, 33: // the C library keeps these to itself: the kernel's kill must be asked
		}
		cmd := exec.Command(site.Checker(), "alice")
		secret, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForRead(t, cmd.Process.Pid)
		if err := syscall.Kill(cmd.Process.Pid, signal); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status != 1<<8 {
			t.Errorf("signal %d: wait status %#x (%v)", signal, int(status), err)
		}
		_ = secret.Close() // the reader is gone
	}
}

// waitForRead waits until the process waits for its standard input.
func waitForRead(t *testing.T, pid int) {
	t.Helper()
	ppoll := map[string]string{"amd64": "271 ", "arm64": "73 "}[runtime.GOARCH]
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err == nil && strings.HasPrefix(string(call), ppoll) {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the helper does not wait for its secret")
}

func TestHelperGivesUpWhateverHangs(t *testing.T) {
	site, daemon := running(t)
	good := create(t, site, "alice", "never")
	user := "alice"

	t.Run("daemon hung", func(t *testing.T) {
		if err := daemon.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := daemon.Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}()
		c := agent{user: &user, password: good}.start(t, site)
		// Meanwhile: what the agent left open is closed.
		waitForSocket(t, c.pid)
		if fds := descriptors(t, c.pid); !slices.Equal(fds, []string{"0", "1", "2", "3"}) {
			t.Errorf("it has the descriptors %v, want the three and its socket", fds)
		}
		r := c.result()
		wantNo(t, r)
		within(t, r.took, giveUp)
	})
	t.Run("daemon down", func(t *testing.T) {
		nowhere := newSite(t)
		r := agent{user: &user, password: good}.run(t, nowhere)
		wantNo(t, r)
		within(t, r.took, giveUp)
	})
	t.Run("no end of the secret", func(t *testing.T) {
		cmd := exec.Command(site.Checker(), "alice")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := stdin.Write([]byte(good)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("it ended with %v", err)
		}
		within(t, time.Since(begun), giveUp)
	})
	t.Run("nobody reads its output", func(t *testing.T) {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		defer writer.Close()
		fd := int(writer.Fd())
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = syscall.Write(fd, make([]byte, 4096))
		}
		if err := syscall.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(site.Checker(), "alice")
		cmd.Stdin, cmd.Stdout = strings.NewReader(good), writer
		if err := cmd.Run(); err != nil {
			t.Errorf("a good token: %v", err)
		}
	})
}

func within(t *testing.T, took, limit time.Duration) {
	t.Helper()
	if took > limit {
		t.Errorf("it took %s, more than %s", took, limit)
	}
}

func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// waitForSocket waits until the process has opened its socket.
func waitForSocket(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		for _, fd := range descriptors(t, pid) {
			call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
			if err == nil && fd == "3" && strings.HasPrefix(target, "socket:") && strings.HasPrefix(string(call), "0 0x3 ") {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the helper does not wait for an answer on descriptor 3")
}

// TestHelperNeedsNextToNothing takes away what a Go program would miss.
func TestHelperNeedsNextToNothing(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	for _, limits := range [][]string{
		{"--as=4000000"}, {"--nproc=1"}, {"--data=1000000"}, {"--stack=65536"}, {"--nofile=4"}, {"--fsize=0"}, {"--memlock=0"}, {"--sigpending=0"},
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
		{"alice", "", `<83>irodsPamAuthCheck[PID]: refused "alice": the secret is empty: does the pam_exec line say expose_authtok?`},
		{"alice", strings.Repeat("x", 1025), `<83>irodsPamAuthCheck[PID]: refused "alice": the secret is longer than 1024 bytes`},
		{strings.Repeat("a", 70), made.good, `<85>irodsPamAuthCheck[PID]: refused "` + strings.Repeat("a", 64) + `...", tokend says: wrong-user`},
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
		if r := (agent{user: &user, password: "x"}).run(t, site); r.status != 1<<8 {
			t.Fatalf("wait status %#x", int(r.status))
		}
	}
	wantYes(t, agent{user: &user, password: made.good}.run(t, site))
}

func TestHelperTellsAPersonAtATerminal(t *testing.T) {
	site, _ := running(t)
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "echo wrong | "+site.Checker()+" alice", "/dev/null")
	out, _ := cmd.CombinedOutput() // the status is the helper's
	if text := string(out); !strings.Contains(text, `refused "alice", tokend says: malformed`) || !strings.Contains(text, "Not Authenticated") {
		t.Errorf("it said %q", text)
	}
}
