package e2e

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tokend/tokend/e2e/rig"
)

// TestWhatIsInstalledIsStatic takes what make build makes.
func TestWhatIsInstalledIsStatic(t *testing.T) {
	bin := makeBuild(t)
	for _, name := range []string{"tokend", "pamhelper"} {
		file, err := elf.Open(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
			t.Errorf("%s needs %v", name, libraries)
		}
		for _, p := range file.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s has a segment %s", name, p.Type)
			}
		}
	}
}

// TestVersionIsThatOfTheBuild, for people and for Prometheus.
func TestVersionIsThatOfTheBuild(t *testing.T) {
	program := filepath.Join(makeBuild(t), "tokend")
	out, err := exec.CommandContext(t.Context(), program, "version", "--json").Output()
	var says struct{ Version, Revision string }
	if err := errors.Join(err, json.Unmarshal(out, &says)); err != nil || says.Version != buildVersion || says.Revision != buildRevision {
		t.Errorf("it says %s, %v", out, err)
	}
	site := newSite(t)
	metrics, err := rig.FreeAddress()
	if err := errors.Join(err, site.WriteConfig(metrics)); err != nil {
		t.Fatal(err)
	}
	daemon, err := site.Launch(exec.Command(program, "serve", "--config", site.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, 0, "an address of [http] is served")
	_, text := fetch(t, "http://"+metrics+"/metrics")
	line := regexp.MustCompile(`(?m)^tokend_build_info\{.*\} 1$`).FindString(text)
	for label, want := range map[string]string{"version": buildVersion, "revision": buildRevision, "goversion": runtime.Version()} {
		if !strings.Contains(line, label+`="`+want+`"`) {
			t.Errorf("%s is not %s: %s", label, want, line)
		}
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

const buildVersion, buildRevision = "v9.8.7", "0123abc"

// makeBuild runs make build and returns the folder that it fills.
func makeBuild(t *testing.T) (bin string) {
	t.Helper()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(newSite(t).Dir, "bin") // others may enter it
	if out, err := exec.CommandContext(t.Context(), "make", "-C", root, "build", "BIN="+bin, "VERSION="+buildVersion, "REVISION="+buildRevision).CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	return bin
}

func TestHelperUsesOnlyTheStandardLibraryAndWire(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "tokend/pamhelper").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"tokend/pamhelper/wire", "tokend/pamhelper"}) {
		t.Errorf("it is made of %v", got)
	}
	out, err = exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "tokend/pamhelper", "tokend/pamhelper/wire").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := strings.Fields(string(out))
	slices.Sort(imports)
	if got := slices.Compact(imports); !slices.Equal(got, []string{"errors", "fmt", "io", "syscall", "tokend/pamhelper/wire", "unsafe"}) {
		t.Errorf("it imports %v", got)
	}
}

// TestHelperNeverCallsIntoTheRuntime reads the machine code of what the helper
// runs. See the package comment of pamhelper for why.
func TestHelperNeverCallsIntoTheRuntime(t *testing.T) {
	harmless := regexp.MustCompile(`^(` + strings.Join([]string{
		`runtime\.(memmove|memequal|memclrNoHeapPointers|duffzero|duffcopy)(\.abi0)?`, // plain memory
		`runtime\.morestack(_noctxt)?(\.abi0)?`,                                       // the guard is 0: never taken
		`runtime\.panic(Bounds|Extend|divide|shift|unsafeslicelen|unsafeslicenilptr|unsafestringlen|unsafestringnilptr)(\.abi0)?`,
		`syscall\.(RawSyscall|RawSyscall6)(\.abi0)?`,
		`main\..*`, `tokend/pamhelper/wire\..*`,
	}, "|") + `)$`)
	called := regexp.MustCompile(`\b(?:CALL|JMP)\s+([A-Za-z_][^\s(]*(?:\([^)]*\))?[^\s(]*)\(SB\)`)
	for _, arch := range []string{"amd64", "arm64"} {
		site := newSite(t)
		path := site.Path("pamhelper-" + arch)
		if err := site.BuildHelper(t.Context(), path, arch); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("go", "tool", "objdump", "-s", `^(main\.|tokend/pamhelper/wire\.)`, path).Output()
		if err != nil {
			t.Fatal(err)
		}
		calls := called.FindAllStringSubmatch(string(out), -1)
		if len(calls) < 50 {
			t.Errorf("%s: only %d calls were found: objdump prints something else now", arch, len(calls))
		}
		for _, call := range calls {
			if !harmless.MatchString(call[1]) && !strings.HasPrefix(call[1], "main.") {
				t.Errorf("%s: it calls %s", arch, call[1])
			}
		}
	}
}

// TestMistakeInTheHelperIsANo builds one that runs past the end of an array,
// where Go would panic and exit with 2.
func TestMistakeInTheHelperIsANo(t *testing.T) {
	site, _ := running(t)
	broken := changedHelper(t, site, "start.go", "	until := wire.Now() + softLimit\n",
		"	until := wire.Now() + softLimit\n	if x := arguments(stack); x.count > 0 {\n		noRuntime[x.count+200] = 1\n	}\n")
	user := "alice"
	r := agent{path: broken, user: &user, password: create(t, site, "alice", "never")}.run(t, site)
	if r.status != 1<<8 || r.stdout != "" {
		t.Errorf("wait status %#x and %q, want 0x100 and not a word", int(r.status), r.stdout)
	}
}

// TestFullStackIsANo builds one that needs more stack than it gets. The handler of
// the signal for it must have one of its own.
func TestFullStackIsANo(t *testing.T) {
	site, _ := running(t)
	greedy := changedHelper(t, site, "start.go", "	until := wire.Now() + softLimit\n", "	until := wire.Now() + deeper(0)\n",
		"// question is", `func deeper(n int64) int64 {
	var room [4096]byte
	room[n%4096] = 1
	return deeper(n+1) + int64(room[(n+1)%4096])
}

// question is`)
	cmd := exec.CommandContext(t.Context(), "prlimit", "--stack=1000000", "--", greedy)
	cmd.Stdin, cmd.Env = strings.NewReader(create(t, site, "alice", "never")), []string{"PAM_USER=alice"}
	out, _ := cmd.CombinedOutput() // the status tells more
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status != 1<<8 || len(out) > 0 {
		t.Errorf("wait status %#x and %q, want 0x100 and not a word", int(status), out)
	}
}

// changedHelper builds one with changes in its source, each an old and a new
// text, and returns its path.
func changedHelper(t *testing.T, site *rig.Site, file string, changes ...string) (path string) {
	t.Helper()
	root, err := rig.Root()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(root, "pamhelper", file)
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(changed, changes[i]) {
			t.Fatalf("%s has no %q any more", file, changes[i])
		}
		changed = strings.Replace(changed, changes[i], changes[i+1], 1)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: write(t, site, file, changed)}})
	if err != nil {
		t.Fatal(err)
	}
	path = site.Path("changed")
	if err := site.BuildHelper(t.Context(), path, "", "-overlay", write(t, site, "overlay.json", string(overlay))); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHelperBuiltWithoutItsEntryIsANo(t *testing.T) {
	site, _ := running(t)
	plain := site.Path(rig.CheckerName + "-plain")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", plain, "tokend/pamhelper").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	user := "alice"
	r := agent{path: plain, user: &user, password: create(t, site, "alice", "never")}.run(t, site)
	if r.status != 1<<8 {
		t.Errorf("wait status %#x, want 0x100", int(r.status))
	}
}

// emulators run the helper of an architecture on whichever this is.
var emulators = map[string]string{"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}

// emulated builds the checker for an architecture, and returns what runs it for a
// user.
func emulated(t *testing.T, site *rig.Site, arch string) func(user string) *exec.Cmd {
	t.Helper()
	path := site.Path("pamhelper-" + arch)
	if err := site.BuildHelper(t.Context(), path, arch); err != nil {
		t.Fatal(err)
	}
	return func(user string) *exec.Cmd {
		return exec.CommandContext(t.Context(), emulators[arch], "-0", rig.CheckerName, path, user)
	}
}

func TestHelperOfEitherArchitectureAnswers(t *testing.T) {
	site, _ := running(t)
	made := createTokens(t, site)
	for arch := range emulators {
		checker := emulated(t, site, arch)
		for _, c := range []struct {
			user, password string
			yes            bool
		}{{"alice", made.good, true}, {"bob", made.good, false}, {"alice", made.expired, false}, {"alice", strings.Repeat("x", 2000), false}} {
			cmd := checker(c.user)
			cmd.Stdin = strings.NewReader(c.password)
			out, err := cmd.CombinedOutput()
			want := "Not Authenticated\n"
			if c.yes {
				want = "Authenticated\n"
			}
			if (err == nil) != c.yes || string(out) != want {
				t.Errorf("%s, %s: %v, %s", arch, c.user, err, out)
			}
		}
	}
}

// TestHelperOfEitherArchitectureEndsByItself: each has an assembler of its own.
func TestHelperOfEitherArchitectureEndsByItself(t *testing.T) {
	site, _ := running(t)
	for arch := range emulators {
		cmd := emulated(t, site, arch)("alice")
		var stdout strings.Builder
		cmd.Stdout = &stdout
		secret, err := cmd.StdinPipe() // never closed: only a signal ends it so soon
		if err != nil {
			t.Fatal(err)
		}
		defer secret.Close()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForRead(t, cmd.Process.Pid)
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the status tells more
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status != 1<<8 || stdout.Len() > 0 {
			t.Errorf("%s: wait status %#x and %q, want 0x100 and not a word", arch, int(status), stdout.String())
		}
	}
}
