package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tokend/tokend/e2e/rig"
)

// runProgram runs one of the programs below this folder as make does, with
// another source file in place of its own if wanted.
func runProgram(t *testing.T, name, replaced string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"run"}
	if replaced != "" {
		source := filepath.Join(root, "tokend/e2e", name, "main.go")
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: replaced}})
		if err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "-overlay", write(t, built, name+".json", string(overlay)))
	}
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", append(append(flags, "./tokend/e2e/"+name), args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestDemonstrationShowsEveryOutcome(t *testing.T) {
	stdout, stderr, err := runProgram(t, "demo", "")
	if err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	for _, line := range []string{
		`alice with her token +in +ok +\d+\.\d ms   Authenticated`,
		`alice with a typo +refused +malformed +\d+\.\d ms   Not Authenticated`,
		`bob with alice's token +refused +wrong-user +\d+\.\d ms   Not Authenticated`,
		`alice, token expired +refused +expired +\d+\.\d ms   Not Authenticated`,
		`alice, token revoked +refused +revoked +\d+\.\d ms   Not Authenticated`,
	} {
		if n := len(regexp.MustCompile(`(?m)^  `+line+`$`).FindAllString(stdout, -1)); n != 2 {
			t.Errorf("%d lines like %s, want one for each way:\n%s", n, line, stdout)
		}
	}
	dir := regexp.MustCompile(`serves in (\S+),`).FindStringSubmatch(stdout)
	if dir == nil {
		t.Fatalf("it does not say where it works:\n%s", stdout)
	}
	if _, err := os.Stat(dir[1]); !os.IsNotExist(err) {
		t.Errorf("it leaves %s behind (%v)", dir[1], err)
	}
}

// TestDemonstrationFailsOnAWrongOutcome has it expect that bob comes in with
// alice's token.
func TestDemonstrationFailsOnAWrongOutcome(t *testing.T) {
	text, err := os.ReadFile("demo/main.go")
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"bob", good, "wrong-user"`, `"bob", good, "ok"`, 1)
	if changed == string(text) {
		t.Fatal("demo/main.go has changed: put the wrong expectation elsewhere")
	}
	stdout, stderr, err := runProgram(t, "demo", write(t, built, "demo.go", changed))
	if err == nil || !strings.Contains(stderr, "demo: 2 wrong outcomes") || !strings.Contains(stdout, "<-- WRONG, ok was expected") {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
}

func TestBenchmarkPrintsItsTables(t *testing.T) {
	stdout, stderr, err := runProgram(t, "bench", "", "-runs", "20", "-span", "100ms")
	if err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	for _, line := range []string{
		`pamhelper +\d+ µs +\d+ µs +\d+ µs`, `static C program +\d+ µs +\d+ µs +\d+ µs`,
		`ratio \(goal: at most 1\.3\) +\d+\.\d\d`, `right token, its record cached +8 +\d+ +\d+ µs +\d+ µs +\d+ µs`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(stdout) {
			t.Errorf("no line like %s:\n%s", line, stdout)
		}
	}
}
