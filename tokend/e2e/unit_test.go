package e2e

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSystemdUnderstandsItsUnit: what systemd does not understand it passes over
// with a warning, and then the daemon runs unprotected.
func TestSystemdUnderstandsItsUnit(t *testing.T) {
	text, err := os.ReadFile("../../packaging/systemd/tokend.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := strings.ReplaceAll(string(text), "/usr/bin/tokend", built.Tokend())
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", write(t, built, "tokend.service", unit)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPassedSocketThatKeepsPeersOutIsTold(t *testing.T) {
	site := newSite(t)
	config, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte("peers = ["), []byte(`peers = ["64001", `), 1)
	if err := os.WriteFile(site.Config(), config, 0o600); err != nil {
		t.Fatal(err)
	}
	launch := exec.Command("sh", "-c", `umask 022; exec systemd-socket-activate "$@"`, "sh", "-l", site.AdminSocket(), "-l", site.AuthSocket(),
		site.Tokend(), "serve", "--config", site.Config())
	daemon, err := site.Launch(launch)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, 0, "peers may be kept out of the socket")
	waitForLog(t, site, 0, "SocketGroup= and SocketMode=0660 in its socket unit would let a group in")
}

// TestSystemdPassesTheSocketsAndIsTold uses systemd's own program for the first
// and a socket of the test for the second.
func TestSystemdPassesTheSocketsAndIsTold(t *testing.T) {
	site := newSite(t)
	notices, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: site.Path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notices.Close()
	noticeWithin := func(limit time.Duration) (string, error) {
		buffer := make([]byte, 1000)
		err := notices.SetReadDeadline(time.Now().Add(limit))
		if err != nil {
			return "", err
		}
		n, err := notices.Read(buffer)
		return string(buffer[:n]), err
	}
	notice := func() string {
		t.Helper()
		told, err := noticeWithin(20 * time.Second)
		if err != nil {
			t.Fatalf("the service manager was told nothing: %v", err)
		}
		return told
	}
	daemon, err := site.Launch(exec.Command("systemd-socket-activate",
		"-l", site.AdminSocket(), "-l", site.AuthSocket(), "-E", "NOTIFY_SOCKET="+site.Path("notify"),
		site.Tokend(), "serve", "--config", site.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil { // the first connection starts it
		t.Fatal(err)
	}
	good := create(t, site, "alice", "never")
	answer, err := site.AskAsIRODS(t.Context(), "alice", good)
	if err != nil || !answer.OK() {
		t.Errorf("got %+v, %v", answer, err)
	}
	if got := notice(); got != "READY=1" {
		t.Errorf("told %q", got)
	}
	text, err := os.ReadFile(site.Config()) // which becomes a pipe, and hangs until somebody writes
	if err := errors.Join(err, os.Remove(site.Config()), syscall.Mkfifo(site.Config(), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := notice(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("told %q", got)
	}
	if told, err := noticeWithin(300 * time.Millisecond); err == nil {
		t.Errorf("before it has read its configuration, told %q", told)
	}
	if err := os.WriteFile(site.Config(), text, 0); err != nil {
		t.Fatal(err)
	}
	if got := notice(); got != "READY=1" {
		t.Errorf("told %q", got)
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	if got := notice(); got != "STOPPING=1" {
		t.Errorf("told %q", got)
	}
	if _, err := os.Lstat(site.AuthSocket()); err != nil {
		t.Errorf("the daemon removed a socket that is systemd's: %v", err)
	}
}

// TestModeOfASocketIsItsMakersMatter: one of systemd's keeps its mode, one that
// tokend made follows its peers.
func TestModeOfASocketIsItsMakersMatter(t *testing.T) {
	site := newSite(t)
	manager := holdSockets(t, site, site.AuthSocket())
	if err := os.Chmod(site.AuthSocket(), 0o660); err != nil {
		t.Fatal(err)
	}
	daemon := manager.launch(t)
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantMode(t, site.AdminSocket(), 0o600)
	own := peersLine(t, site)
	reconfigure(t, site, own, `peers = ["54321"]`)
	reconfigure(t, site, "\n"+own, "\npeers = [\"54321\"]")
	hangup(t, site, daemon, `"changed":"auth.peers admin.peers"`)
	wantMode(t, site.AuthSocket(), 0o660)
	wantMode(t, site.AdminSocket(), 0o660) // the mask of its access rules
	if err := os.Chmod(site.AuthSocket(), 0o666); err != nil {
		t.Fatal(err)
	}
	hangup(t, site, daemon, "the socket is open to strangers")
	wantMode(t, site.AuthSocket(), 0o666)
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}
