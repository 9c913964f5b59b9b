package e2e

import (
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
