// Package e2e tests the built programs from outside, as their users meet them:
// iRODS's agent, PAM, saslauthd's client, systemd, and an admin.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// built has the programs that do not depend on a site's paths.
var built *rig.Site

// agentProgram is testdata/agent.c, see there.
var agentProgram string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		// A race ends the program, with a status that is an error to every test.
		if err := os.Setenv("GORACE", "halt_on_error=1 atexit_sleep_ms=0"); err != nil {
			panic(err)
		}
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "build the programs:", err)
			return 1
		}
		defer func() {
			if err := errors.Join(built.Close(), stopServers()); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
			}
		}()
		return m.Run()
	}())
}

func build() (err error) {
	if built, err = rig.NewSite(); err != nil {
		return err
	}
	agentProgram = built.Path("agent")
	return errors.Join(
		built.BuildTokend(context.Background(), true),
		compile(agentProgram, "testdata/agent.c"),
		compile(built.Path("setuid"), "testdata/setuid.c"),
		compile(built.Path("blocked"), "testdata/blocked.c"),
	)
}

func compile(out, source string) error {
	if text, err := exec.Command("cc", "-O2", "-o", out, source).CombinedOutput(); err != nil {
		return fmt.Errorf("cc %s: %w\n%s", source, err, text)
	}
	return nil
}

// newSite returns a site with its programs and configuration, not yet started.
func newSite(t *testing.T, more ...string) *rig.Site {
	t.Helper()
	site, err := rig.NewSite()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(site.Log()); err == nil {
				t.Logf("the daemon's log ends:\n%s", last(string(log), 4000))
			}
		}
		if err := site.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, err := range []error{
		os.Link(built.Tokend(), site.Tokend()),
		site.BuildHelper(t.Context(), site.Helper(), ""),
		os.Link(site.Helper(), site.Checker()),
		site.WriteConfig("", more...),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return site
}

// start runs the site's daemon until the test ends; then it must end cleanly.
func start(t *testing.T, site *rig.Site) *rig.Daemon {
	t.Helper()
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := daemon.Stop(); err != nil {
			t.Errorf("tokend did not end cleanly: %v", err)
		}
	})
	return daemon
}

// running is a site whose daemon runs.
func running(t *testing.T, more ...string) (*rig.Site, *rig.Daemon) {
	t.Helper()
	site := newSite(t, more...)
	return site, start(t, site)
}

func tokend(t *testing.T, site *rig.Site, stdin string, args ...string) string {
	t.Helper()
	out, err := site.Run(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func create(t *testing.T, site *rig.Site, user, life string) (secret string) {
	t.Helper()
	return tokend(t, site, "", "token", "create", "--user", user, "--expires", life)
}

// tokens are one of each kind. Made for alice, but for bob's and carol's.
type tokens struct {
	good, expired, revoked, bobs, disabled string
}

func createTokens(t *testing.T, site *rig.Site) tokens {
	t.Helper()
	made := tokens{
		good: create(t, site, "alice", "30d"), expired: create(t, site, "alice", "1s"),
		revoked: create(t, site, "alice", "never"), bobs: create(t, site, "bob", "24"),
		disabled: create(t, site, "carol", "never"),
	}
	tokend(t, site, made.revoked, "token", "revoke", "--secret", "-")
	tokend(t, site, "", "user", "disable", "carol")
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(tokend(t, site, "", "token", "list", "--user", "alice", "--json"), `"expired"`) {
		if time.Now().After(deadline) {
			t.Fatal("the token of 1s does not expire")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return made
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

// lastReason is the reason of the newest verdict in the daemon's log.
func lastReason(t *testing.T, site *rig.Site) string {
	t.Helper()
	lines, err := site.Verdicts()
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1].Reason
}

// write makes a file in the site's folder and returns its path.
func write(t *testing.T, site *rig.Site, name, text string) string {
	t.Helper()
	path := filepath.Join(site.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
