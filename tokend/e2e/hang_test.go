package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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

// waiting is a checker that waits for its secret, and what becomes of it.
type waiting struct {
	*exec.Cmd
	secret io.WriteCloser
	stdout strings.Builder
}

// ask starts the site's checker for alice, by way of a program if one is given,
// and waits until it waits for its secret.
func ask(t *testing.T, site *rig.Site, by ...string) *waiting {
	t.Helper()
	args := slices.Concat(by, []string{site.Checker(), "alice"})
	w := &waiting{Cmd: exec.Command(args[0], args[1:]...)}
	w.Stdout = &w.stdout
	var err error
	if w.secret, err = w.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	waitForRead(t, w.Process.Pid)
	return w
}

// present sends the secret, unless the checker is gone.
func (w *waiting) present(secret string) {
	_, _ = io.WriteString(w.secret, secret)
	_ = w.secret.Close()
}

// status waits for the end.
func (w *waiting) status() syscall.WaitStatus {
	_ = w.Wait() // the status tells more
	return w.ProcessState.Sys().(syscall.WaitStatus)
}

// TestEverySignalIsANo sends each signal to a helper that waits for its secret:
// it ends at once and without a word. Those that mean nothing are nothing.
func TestEverySignalIsANo(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	harmless := []syscall.Signal{syscall.SIGPIPE, syscall.SIGXFSZ, syscall.SIGTTOU, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH}
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		if signal == syscall.SIGKILL || signal == syscall.SIGSTOP { // nobody can catch these
			continue
		}
		w, want, said := ask(t, site), syscall.WaitStatus(1<<8), ""
		begun := time.Now()
		if err := syscall.Kill(w.Process.Pid, signal); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(harmless, signal) {
			want, said = 0, "Authenticated\n"
			w.present(good)
		}
		if status := w.status(); status != want || w.stdout.String() != said {
			t.Errorf("signal %d: wait status %#x and %q, want %#x and %q", signal, int(status), w.stdout.String(), int(want), said)
		}
		within(t, time.Since(begun), 1500*time.Millisecond) // it gives up by itself after more than two
		_ = w.secret.Close()                                // the reader is gone
	}
}

// TestSignalsThatWereBlockedAreANoToo: the helper is born with all of them
// blocked, and one ignored.
func TestSignalsThatWereBlockedAreANoToo(t *testing.T) {
	w := ask(t, newSite(t), built.Path("blocked"))
	defer w.secret.Close()
	begun := time.Now()
	if err := syscall.Kill(w.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := w.status(); status != 1<<8 || w.stdout.Len() > 0 {
		t.Errorf("wait status %#x and %q, want 0x100 and not a word", int(status), w.stdout.String())
	}
	within(t, time.Since(begun), time.Second) // it gives up by itself after more than two
}

// TestYesThatComesTooLateIsANo stops the helper while it waits for the daemon,
// which says yes meanwhile. When it goes on, the kernel's timer has the first
// word.
func TestYesThatComesTooLateIsANo(t *testing.T) {
	for _, by := range [][]string{nil, {built.Path("blocked")}} {
		site := newSite(t)
		listener, err := net.Listen("unix", site.AuthSocket())
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		begun := time.Now()
		w := ask(t, site, by...)
		w.present("irt_whatever")
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		waitForSocket(t, w.Process.Pid)
		if err := syscall.Kill(w.Process.Pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "\x00\x02OK"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(begun.Add(giveUp + 200*time.Millisecond)))
		if err := syscall.Kill(w.Process.Pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if status := w.status(); status != 1<<8 || w.stdout.Len() > 0 {
			t.Errorf("by %v: wait status %#x and %q, want 0x100 and not a word", by, int(status), w.stdout.String())
		}
	}
}

// TestNobodyHearsTheAnswer: who ran the helper has closed its end of the pipe.
func TestNobodyHearsTheAnswer(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	for secret, want := range map[string]syscall.WaitStatus{good: 0, rig.Typo(good): 1 << 8} {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := reader.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(site.Checker(), "alice")
		cmd.Stdin, cmd.Stdout = strings.NewReader(secret), writer
		_ = cmd.Run() // the status tells more
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status != want {
			t.Errorf("wait status %#x, want %#x", int(status), int(want))
		}
		if err := writer.Close(); err != nil {
			t.Fatal(err)
		}
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
		// One of them on a kernel without close_range.
		older := changedHelper(t, site, "guard.go", "sysCloseRange = 436", "sysCloseRange = 99999")
		for _, path := range []string{site.Checker(), older} {
			c := agent{path: path, user: &user, password: good}.start(t, site)
			// Meanwhile: what the agent left open is closed.
			waitForSocket(t, c.pid)
			if fds := descriptors(t, c.pid); !slices.Equal(fds, []string{"0", "1", "2", "3"}) {
				t.Errorf("it has the descriptors %v, want the three and its socket", fds)
			}
			r := c.result()
			wantNo(t, r)
			within(t, r.took, giveUp)
		}
	})
	t.Run("daemon down", func(t *testing.T) {
		nowhere := newSite(t)
		r := agent{user: &user, password: good}.run(t, nowhere)
		wantNo(t, r)
		within(t, r.took, giveUp)
	})
	t.Run("no end of the secret", func(t *testing.T) {
		cmd := exec.Command(site.Checker(), "alice")
		var stdout strings.Builder
		cmd.Stdout = &stdout
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
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || stdout.String() != "Not Authenticated\n" {
			t.Errorf("it ended with %v and %q", err, &stdout)
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
	reading := map[string]string{"amd64": "0 0x3 ", "arm64": "63 0x3 "}[runtime.GOARCH]
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		for _, fd := range descriptors(t, pid) {
			call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
			if err == nil && fd == "3" && strings.HasPrefix(target, "socket:") && strings.HasPrefix(string(call), reading) {
				return
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the helper does not wait for an answer on descriptor 3")
}
