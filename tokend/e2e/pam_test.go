package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// stack is /etc/pam.d/irods as README.md gives it, with another path of the helper.
func stack(t *testing.T, helper string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^    auth +\[.*\n    auth .*\n`).FindAllString(string(readme), -1)
	if len(lines) != 1 || strings.Count(lines[0], "/usr/libexec/tokend/pamhelper") != 1 {
		t.Fatalf("README.md gives no stack, or several: %q", lines)
	}
	return strings.ReplaceAll(lines[0], "/usr/libexec/tokend/pamhelper", helper)
}

// pam logs in through the real PAM with pamtester. The service files are the
// site's own: a private mount puts them over /etc/pam.d, for pamtester alone.
func pam(t *testing.T, site *rig.Site, user, password string) (yes bool, took time.Duration) {
	t.Helper()
	const script = `mount --bind "$1" /etc/pam.d && exec setpriv --reuid "$2" --regid "$3" --clear-groups pamtester irods "$4" authenticate`
	cmd := asRoot(t, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
		site.Path("pam.d"), fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid()), user)
	cmd.Stdin = strings.NewReader(password + "\n")
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took = time.Since(begun)
	var exit *exec.ExitError
	text := string(out)
	switch {
	case err == nil && strings.Contains(text, "successfully authenticated"):
		return true, took
	case errors.As(err, &exit) && strings.Contains(text, "Authentication failure"):
		return false, took
	}
	t.Fatalf("pamtester: %v\n%s", err, out)
	return false, 0
}

// withPAM gives the site a folder of PAM services with the documented stack.
func withPAM(t *testing.T, site *rig.Site) {
	t.Helper()
	if err := os.Mkdir(site.Path("pam.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	service := stack(t, site.Helper())
	if err := os.WriteFile(filepath.Join(site.Path("pam.d"), "irods"), []byte(service), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoginThroughPAM(t *testing.T) {
	site := newSite(t)
	withPAM(t, site)
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := createTokens(t, site)
	for _, c := range []struct {
		name, user, password, reason string
	}{
		{"right", "alice", made.good, "ok"},
		{"typo", "alice", rig.Typo(made.good), "malformed"},
		{"expired", "alice", made.expired, "expired"},
		{"revoked", "alice", made.revoked, "revoked"},
		{"bob with alice's", "bob", made.good, "wrong-user"},
		{"disabled user", "carol", made.disabled, "user-disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			yes, _ := pam(t, site, c.user, c.password)
			if reason := lastReason(t, site); yes != (c.reason == "ok") || reason != c.reason {
				t.Errorf("yes: %v, the log says %s, want %s", yes, reason, c.reason)
			}
		})
	}
	t.Run("daemon hung", func(t *testing.T) {
		if err := daemon.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		yes, took := pam(t, site, "alice", made.good)
		if yes {
			t.Error("a yes")
		}
		within(t, took, giveUp)
		if err := daemon.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if yes, _ := pam(t, site, "alice", made.good); !yes {
			t.Error("after it goes on: a no")
		}
	})
	t.Run("daemon down", func(t *testing.T) {
		if err := daemon.Stop(); err != nil {
			t.Fatal(err)
		}
		yes, took := pam(t, site, "alice", made.good)
		if yes {
			t.Error("a yes")
		}
		within(t, took, giveUp)
	})
}

// testsaslauthd stands where an ordinary user's PATH does not lead.
const testsaslauthd = "/usr/sbin/testsaslauthd"

// TestClientNobodyHereWroteGetsTheSameAnswers asks with saslauthd's own client.
func TestClientNobodyHereWroteGetsTheSameAnswers(t *testing.T) {
	site, _ := running(t)
	made := createTokens(t, site)
	for _, c := range []struct {
		user, password, reason string
	}{
		{"alice", made.good, "ok"},
		{"alice", rig.Typo(made.good), "malformed"},
		{"bob", made.good, "wrong-user"},
		{"alice", made.expired, "expired"},
		{"alice", made.revoked, "revoked"},
		{"carol", made.disabled, "user-disabled"},
		{"bob", made.bobs, "ok"},
	} {
		want := `0: NO "authentication failed"`
		if c.reason == "ok" {
			want = `0: OK "Success."`
		}
		out, err := exec.CommandContext(t.Context(), testsaslauthd, "-u", c.user, "-p", c.password, "-f", site.AuthSocket(), "-s", "irods").CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != want || (err == nil) != (c.reason == "ok") {
			t.Errorf("%s: got %s (%v), want %s", c.user, got, err, want)
		}
		if got := lastReason(t, site); got != c.reason {
			t.Errorf("%s: the daemon says %s, want %s", c.user, got, c.reason)
		}
	}
}
