package e2e

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

// TestCommandGivesUpWhenTheDaemonHangs, and says what may have become of a change.
func TestCommandGivesUpWhenTheDaemonHangs(t *testing.T) {
	site, daemon := running(t)
	if err := daemon.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := daemon.Signal(syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var commands sync.WaitGroup
	for _, c := range []struct{ args, want string }{
		{"user list", "did not answer within 15s: see its log"},
		{"token revoke nosuchtoken1", "did not answer within 15s; it may have done it all the same, or do it later: see its log, and tokend audit"},
	} {
		commands.Go(func() {
			args := append(strings.Fields(c.args), "--admin-socket", site.AdminSocket())
			out, err := exec.CommandContext(ctx, site.Tokend(), args...).CombinedOutput()
			if ctx.Err() != nil || err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%s: %s, %v, %v", c.args, out, err, ctx.Err())
			}
		})
	}
	commands.Wait()
}

// TestInterruptedChangeSaysWhatMayHaveBecomeOfIt to who didn't want to wait longer.
func TestInterruptedChangeSaysWhatMayHaveBecomeOfIt(t *testing.T) {
	site := newSite(t)
	listener := hung(t, site)
	for args, want := range map[string]string{
		"token revoke nosuchtoken1": "tokend: interrupted: the daemon at " + site.AdminSocket() + " had not answered; it may have done it all the same, or do it later: see its log, and tokend audit\n",
		"user list":                 "",
	} {
		cmd := exec.CommandContext(t.Context(), site.Tokend(), append(strings.Fields(args), "--admin-socket", site.AdminSocket())...)
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		conn := asked(t, listener)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM || said.String() != want {
			t.Errorf("%s: %v, %q, want its end by the signal and %q", args, err, said.String(), want)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestInterruptedChangeEndsThoughNobodyReadsWhatItSays: at the second signal.
func TestInterruptedChangeEndsThoughNobodyReadsWhatItSays(t *testing.T) {
	site := newSite(t)
	listener := hung(t, site)
	read, full, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer full.Close()
	if err := full.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = full.Write(make([]byte, 4096))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, site.Tokend(), "token", "revoke", "nosuchtoken1", "--admin-socket", site.AdminSocket())
	cmd.Stderr = full
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer asked(t, listener).Close()
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the status tells more
		close(ended)
	}()
	for again := true; again; {
		_ = cmd.Process.Signal(syscall.SIGTERM) // which may have ended
		select {
		case <-ended:
			again = false
		case <-time.After(50 * time.Millisecond):
		}
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("wait status %#x, want its end by SIGTERM", int(status))
	}
}

// hung is a daemon that answers nothing.
func hung(t *testing.T, site *rig.Site) *net.UnixListener {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: site.AdminSocket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	if err := listener.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // a command that doesn't ask
		t.Fatal(err)
	}
	return listener
}

// asked is a command's connection to it, once there is a request.
func asked(t *testing.T, listener *net.UnixListener) net.Conn {
	t.Helper()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestInterruptedChangeLeavesTheTerminalAsItWas, though nothing typed was shown.
func TestInterruptedChangeLeavesTheTerminalAsItWas(t *testing.T) {
	site := newSite(t)
	listener := hung(t, site)
	command := site.Tokend() + " token revoke --secret - --admin-socket " + site.AdminSocket()
	cmd := exec.CommandContext(t.Context(), "script", "-qefc", "trap : INT; "+command+"; echo status $?; stty -a", os.DevNull)
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var screen, prompt strings.Builder
	cmd.Stdout = &screen
	cmd.Stderr = &prompt
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(keys, token.Mint().Reveal()+"\n") // it waits in the terminal
	if err != nil {
		t.Fatal(err)
	}
	defer asked(t, listener).Close()
	if _, err = io.WriteString(keys, "\x03"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, screen.String(), prompt.String())
	}
	for _, want := range []string{"had not answered; it may have done it all the same", "status 130", " echo "} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("the screen does not show %q:\n%s", want, screen.String())
		}
	}
}

// TestReasonSteersNoTerminal: who answers is no tokend.
func TestReasonSteersNoTerminal(t *testing.T) {
	site := newSite(t)
	listener, err := net.Listen("unix", site.AuthSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.WriteString(conn, "\x00\x0bNO \x1b[2J\nyes")
			_ = conn.Close()
		}
	}()
	cmd := exec.CommandContext(t.Context(), site.Tokend(), "check", "--user", "alice", "--socket", site.AuthSocket())
	cmd.Stdin = strings.NewReader("irt_whatever")
	out, _ := cmd.Output() // the status of a no
	if want := `no: "\x1b[2J\nyes"` + "\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}
