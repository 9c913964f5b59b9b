package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// stack is /etc/pam.d/irods as the documents give it.
const stack = `auth  [success=done default=ignore]  pam_exec.so quiet expose_authtok %s
auth  requisite                      pam_deny.so
`

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
	service := fmt.Sprintf(stack, site.Helper())
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
		user, password, answer string
	}{
		{"alice", made.good, `0: OK "Success."`},
		{"alice", rig.Typo(made.good), `0: NO "authentication failed"`},
		{"bob", made.good, `0: NO "authentication failed"`},
		{"alice", made.expired, `0: NO "authentication failed"`},
		{"alice", made.revoked, `0: NO "authentication failed"`},
		{"carol", made.disabled, `0: NO "authentication failed"`},
		{"bob", made.bobs, `0: OK "Success."`},
	} {
		out, err := exec.CommandContext(t.Context(), testsaslauthd, "-u", c.user, "-p", c.password, "-f", site.AuthSocket(), "-s", "irods").CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != c.answer || (err == nil) != strings.Contains(c.answer, "OK") {
			t.Errorf("%s: got %s (%v), want %s", c.user, got, err, c.answer)
		}
	}
}
