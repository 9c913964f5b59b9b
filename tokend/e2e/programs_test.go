package e2e

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tokend/tokend/e2e/rig"
)

// runProgram runs one of the programs below this folder as make does, with
// another source file in place of its own if wanted.
func runProgram(t *testing.T, name, file, replaced string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"run"}
	if replaced != "" {
		source := filepath.Join(root, "tokend/e2e", name, file)
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
	stdout, stderr, err := runProgram(t, "demo", "", "")
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

func TestDemonstrationThatIsInterruptedLeavesNothing(t *testing.T) {
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	demo := filepath.Join(t.TempDir(), "demo")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", demo, "./tokend/e2e/demo")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), demo)
	var said strings.Builder
	cmd.Dir, cmd.Stderr = root, &said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dir := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); { // to the end
		if serves := regexp.MustCompile(`serves in (\S+),`).FindStringSubmatch(lines.Text()); serves != nil {
			dir = serves[1]
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || said.String() != "demo: interrupted\n" {
		t.Errorf("it ends with %v and says %q", err, said.String())
	}
	if _, err := os.Stat(dir); dir == "" || !os.IsNotExist(err) {
		t.Errorf("it leaves %q behind (%v)", dir, err)
	}
}

// TestDemonstrationFailsOnAWrongOutcome: bob, who comes with alice's token, is refused
// for another reason than is expected, or is told another thing than the daemon said.
func TestDemonstrationFailsOnAWrongOutcome(t *testing.T) {
	const (
		expectation = `"bob", good, "wrong-user"`
		asked       = "verdicts, err := site.Verdicts()"
	)
	for name, c := range map[string]struct{ text, changed, said string }{
		"another reason": {expectation, `"bob", good, "expired"`, "<-- WRONG, expired was expected"},
		"a yes":          {asked, `if l.user == "bob" { answer = rig.Answer{Stdout: "Authenticated\n"} }; ` + asked, "<-- WRONG, wrong-user was expected"},
		"other words":    {asked, `if l.user == "bob" { answer.Stdout = "Authenticated\n" }; ` + asked, "<-- WRONG, wrong-user was expected"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("demo/main.go")
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), c.text, c.changed, 1)
			if changed == string(text) {
				t.Fatal("demo/main.go has changed: put the wrong outcome elsewhere")
			}
			stdout, stderr, _ := runProgram(t, "demo", "main.go", write(t, built, strings.ReplaceAll(name, " ", "-")+".go", changed))
			if !strings.HasSuffix(stderr, "demo: 2 wrong outcomes\nexit status 1\n") || !strings.Contains(stdout, c.said) {
				t.Errorf("%s\n%s", stdout, stderr)
			}
		})
	}
}

func TestBenchmarkPrintsItsTables(t *testing.T) {
	stdout, stderr, err := runProgram(t, "bench", "", "", "-runs", "20", "-span", "100ms", "-rounds", "1", "-tokens", "20000")
	if err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	for _, line := range []string{
		`pamhelper +\d+ µs +\d+ µs +\d+ µs`, `static C program +\d+ µs +\d+ µs +\d+ µs`,
		`ratio \(goal: at most 1\.3\) +\d+\.\d\d`, `right token, its record cached +8 +\d+ +\d+ µs +\d+ µs +\d+ µs`,
		`GET, bare go-redis in one process +8 +\d+`, `a check over the socket +8 +\d+ +\d+\.\d\d +\d+ µs`,
		`the exchange alone, with a server in C that says OK to all +8 +\d+ +\d+\.\d\d`,
		`1 daemon +8 +\d+ +1\.00`, `3 daemons +64 +\d+ +\d+\.\d\d`,
		`pgbench, a prepared SELECT by primary key +8 +\d+`, `the store's Lookup in one process +8 +\d+ +\d+\.\d\d`,
		`a check over the socket, nothing in Redis +8 +\d+ +\d+\.\d\d`,
		`10000 tokens +8 +\d+ µs +\d+`, `20000 tokens +8 +\d+ µs +\d+\.\d\d +\d+ +\d+\.\d\d`,
		`pgbench, 10000 tokens +8 +\d+`, `pgbench, 20000 tokens +8 +\d+ +\d+\.\d\d`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + ` *$`).MatchString(stdout) {
			t.Errorf("no line like %s:\n%s", line, stdout)
		}
	}
	var figures []float64
	for _, line := range []string{`pamhelper +(\d+) µs`, `static C program +(\d+) µs`, `ratio .* (\d+\.\d\d)`} {
		if found := regexp.MustCompile(`(?m)^` + line).FindStringSubmatch(stdout); found != nil {
			figure, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			figures = append(figures, figure)
		}
	}
	if len(figures) != 3 || math.Abs(figures[0]/figures[1]-figures[2]) > 0.02 {
		t.Errorf("the ratio is not that of the helper's median to the C program's: %v", figures)
	}
}

// TestBenchmarkCountsNoWrongAnswers has it expect that a token that is none opens iRODS.
func TestBenchmarkCountsNoWrongAnswers(t *testing.T) {
	const load = `"no token at all", "no",`
	text, err := os.ReadFile("bench/load.go")
	if err != nil || !strings.Contains(string(text), load) {
		t.Fatalf("bench/load.go has changed (%v): put the wrong expectation elsewhere", err)
	}
	wrong := write(t, built, "load.go", strings.Replace(string(text), load, `"no token at all", "yes",`, 1))
	_, stderr, _ := runProgram(t, "bench", "load.go", wrong, "-only", "daemon", "-span", "100ms")
	if !strings.HasSuffix(stderr, "wrong answer: NO malformed\n\nexit status 1\n") {
		t.Errorf("it ends with %q", stderr)
	}
}
