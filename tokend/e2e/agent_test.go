package e2e

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// agent runs a checker as iRODS's agent does, see testdata/agent.c.
type agent struct {
	path     string // of the checker; empty: the site's
	argv0    string // empty: as in iRODS 5
	user     *string
	password string
	env      []string
}

// child is a checker that the agent has started.
type child struct {
	pid    int
	result func() result
}

type result struct {
	status syscall.WaitStatus
	stdout string
	took   time.Duration
}

func (a agent) start(t *testing.T, site *rig.Site) child {
	t.Helper()
	if a.path == "" {
		a.path = site.Checker()
	}
	if a.argv0 == "" {
		a.argv0 = "/usr/sbin/" + rig.CheckerName
	}
	file, err := os.CreateTemp(site.Dir, "password")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(file, a.password); err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	args := []string{file.Name(), a.path, a.argv0}
	if a.user != nil {
		args = append(args, *a.user)
	}
	args = append(append(args, "--"), a.env...)
	reports, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout strings.Builder
	cmd := exec.CommandContext(t.Context(), agentProgram, args...)
	cmd.Stdout, cmd.ExtraFiles = &stdout, []*os.File{to}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(reports)
	number := func() int {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("the agent says nothing")
		}
		if lines.Text() == "write: Broken pipe" && lines.Scan() { // it refused before it read
			t.Log("the checker did not read its password")
		}
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("the agent says: %s", lines.Text())
		}
		return n
	}
	return child{pid: number(), result: func() result {
		t.Helper()
		defer reports.Close()
		status := syscall.WaitStatus(number())
		took := time.Since(begun)
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return result{status, stdout.String(), took}
	}}
}

func (a agent) run(t *testing.T, site *rig.Site) result {
	t.Helper()
	return a.start(t, site).result()
}

// wantYes and wantNo hold a result against the only two ways there are.
func wantYes(t *testing.T, r result) {
	t.Helper()
	if r.status != 0 || r.stdout != "Authenticated\n" {
		t.Errorf("wait status %#x and %q, want 0 and Authenticated", int(r.status), r.stdout)
	}
}

func wantNo(t *testing.T, r result) {
	t.Helper()
	if r.status != 1<<8 || r.stdout != "Not Authenticated\n" {
		t.Errorf("wait status %#x and %q, want 0x100 and Not Authenticated", int(r.status), r.stdout)
	}
}

func TestCheckerAnswersAsIRODSExpects(t *testing.T) {
	site, _ := running(t)
	made := createTokens(t, site)
	for _, c := range []struct {
		name, user, password, reason string
	}{
		{"right", "alice", made.good, "ok"},
		{"right, as a person types it", "alice", made.good + "\n", "ok"},
		{"right, from a terminal in raw mode", "alice", made.good + "\r\n", "ok"},
		{"right, as an old pam_exec sends it", "alice", made.good + "\x00", "ok"},
		{"right, with text behind the NUL", "alice", made.good + "\x00more", "ok"},
		{"typo", "alice", rig.Typo(made.good), "malformed"},
		{"cut to 41 characters", "alice", made.good[:41], "malformed"},
		{"one character more", "alice", made.good + "a", "malformed"},
		{"upper case", "alice", strings.ToUpper(made.good), "malformed"},
		{"space before", "alice", " " + made.good, "malformed"},
		{"CR alone behind", "alice", made.good + "\r", "malformed"},
		{"unknown", "alice", rightButUnknown(t), "unknown"},
		{"expired", "alice", made.expired, "expired"},
		{"revoked", "alice", made.revoked, "revoked"},
		{"bob with alice's", "bob", made.good, "wrong-user"},
		{"alice with bob's", "alice", made.bobs, "wrong-user"},
		{"another case of the name", "Alice", made.good, "wrong-user"},
		{"name with its zone", "alice#tempZone", made.good, "wrong-user"},
		{"name with a space", "alice ", made.good, "wrong-user"},
		{"disabled user", "carol", made.disabled, "user-disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := agent{user: &c.user, password: c.password}.run(t, site)
			if c.reason == "ok" {
				wantYes(t, r)
			} else {
				wantNo(t, r)
			}
			if got := lastReason(t, site); got != c.reason {
				t.Errorf("the log says %q, want %q", got, c.reason)
			}
		})
	}
}

// rightButUnknown is a well-formed token that no store here has: one of another
// installation.
func rightButUnknown(t *testing.T) string {
	t.Helper()
	site, _ := running(t)
	return create(t, site, "alice", "never")
}

func TestUserNameIsDataWhateverItLooksLike(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	for _, user := range []string{
		"--help", "-x", "", "--socket", "--version", "alice\x01", "alice\nbob", "\xff\xfe", "../alice",
		strings.Repeat("a", 64), strings.Repeat("a", 1024), strings.Repeat("a", 1025), strings.Repeat("a", 10_000),
	} {
		wantNo(t, agent{user: &user, password: good}.run(t, site))
	}
	for _, user := range []string{"-x", "--help", "--socket", "--version"} {
		secret := tokend(t, site, "", "token", "create", "--user="+user)
		wantYes(t, agent{user: &user, password: secret}.run(t, site))
	}
	wantNo(t, agent{password: good}.run(t, site)) // no user name at all
}

func TestCheckerTakesNothingFromItsEnvironment(t *testing.T) {
	site, _ := running(t)
	other, _ := running(t) // where alice's and mallory's tokens are good
	alice := create(t, site, "alice", "never")
	mallory := create(t, other, "mallory", "never")
	hostile := []string{
		"PAM_USER=alice", "USER=alice", "LOGNAME=alice", "PAM_TYPE=auth", "PAM_SERVICE=irods",
		"TOKEND_SOCKET=" + other.AuthSocket(), "SOCKET=" + other.AuthSocket(), "socketPath=" + other.AuthSocket(),
		"TOKEND_USER=alice", "TOKEND_MODE=pamhelper", "_=pamhelper", "argv0=pamhelper",
		"GOMAXPROCS=1000000", "GOMEMLIMIT=x", "GOGC=x", "GOTRACEBACK=crash",
		"GODEBUG=inittrace=1,schedtrace=1,gctrace=1", "GOCOVERDIR=" + site.Dir,
		"LD_PRELOAD=/nonexistent.so", "LD_LIBRARY_PATH=" + site.Dir, "TZ=/dev/zero", "PATH=", "IFS=x",
		strings.Repeat("A", 60_000) + "=" + strings.Repeat("B", 60_000),
	}
	for _, argv0 := range []string{"/usr/sbin/irodsPamAuthCheck", "./irodsPamAuthCheck", "irodsPamAuthCheck"} {
		bob, user, nobody := "bob", "alice", ""
		wantNo(t, agent{argv0: argv0, user: &bob, password: alice, env: hostile}.run(t, site))
		wantNo(t, agent{argv0: argv0, user: &nobody, password: alice, env: hostile}.run(t, site))
		wantNo(t, agent{argv0: argv0, password: alice, env: hostile}.run(t, site))
		wantYes(t, agent{argv0: argv0, user: &user, password: alice, env: hostile}.run(t, site))
		name := "mallory"
		r := agent{argv0: argv0, user: &name, password: mallory, env: hostile}.run(t, site)
		wantNo(t, r)
		if got := lastReason(t, site); got != "unknown" {
			t.Errorf("the site's own daemon says %q, want unknown", got)
		}
	}
	if lines, err := other.Verdicts(); err != nil || len(lines) != 0 {
		t.Errorf("the other daemon was asked: %v, %v", lines, err)
	}
}

func TestOnlyArgvZeroChoosesTheMode(t *testing.T) {
	site, _ := running(t)
	good := create(t, site, "alice", "never")
	alice, bob := "alice", "bob"
	asPAM := []string{"PAM_USER=alice", "PAM_TYPE=auth", "PAM_SERVICE=irods"}
	// Under another name argv[1] is a flag of pamhelper, and this is none.
	wantNo(t, agent{argv0: "pamhelper", user: &alice, password: good, env: asPAM}.run(t, site))
	wantYes(t, agent{argv0: "pamhelper", password: good, env: asPAM}.run(t, site))
	wantNo(t, agent{argv0: "pamhelper", password: good}.run(t, site))
	wantNo(t, agent{argv0: "pamhelper", password: good, env: []string{"PAM_USER="}}.run(t, site))
	wantNo(t, agent{argv0: "irodsPamAuthCheck/pamhelper", password: good}.run(t, site))
	// What follows the name is nobody's.
	other, _ := running(t)
	mallory := create(t, other, "mallory", "never")
	for _, more := range [][]string{{"--socket", other.AuthSocket()}, {"--socket=" + other.AuthSocket()}, {other.AuthSocket()}, {"mallory"}} {
		cmd := exec.CommandContext(t.Context(), site.Checker())
		cmd.Args = append([]string{"irodsPamAuthCheck", "mallory"}, more...)
		cmd.Stdin = strings.NewReader(mallory)
		if err := cmd.Run(); err == nil {
			t.Errorf("%q: a yes", cmd.Args)
		}
	}
	if lines, err := other.Verdicts(); err != nil || len(lines) != 0 {
		t.Errorf("the other daemon was asked: %v, %v", lines, err)
	}
	// The file's own name has no say.
	wantYes(t, agent{path: site.Helper(), argv0: "irodsPamAuthCheck", user: &alice, password: good}.run(t, site))
	wantNo(t, agent{path: site.Checker(), argv0: "irodsPamAuthCheck", user: &bob, password: good, env: asPAM}.run(t, site))
}

func TestUnderPAMTheSocketIsTheFlags(t *testing.T) {
	site, _ := running(t)
	other, _ := running(t) // whose tokens are not the site's
	mallory := create(t, other, "mallory", "never")
	for _, c := range []struct {
		flags []string
		yes   bool
	}{
		{nil, false}, {[]string{"--socket", site.AuthSocket()}, false},
		{[]string{"--socket", other.AuthSocket()}, true}, {[]string{"--socket=" + other.AuthSocket()}, true},
	} {
		cmd := exec.CommandContext(t.Context(), site.Helper(), c.flags...)
		cmd.Env, cmd.Stdin = []string{"PAM_USER=mallory", "PAM_TYPE=auth"}, strings.NewReader(mallory)
		if out, err := cmd.CombinedOutput(); (err == nil) != c.yes {
			t.Errorf("%q: %s, %v", c.flags, out, err)
		}
	}
}
