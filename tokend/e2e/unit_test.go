package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
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
	waitForLog(t, site, 0, "SocketMode=0666 in its socket unit would let all in")
}
