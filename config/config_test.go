package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/config"
)

func TestWithoutAFileAllIsDefault(t *testing.T) {
	dir := t.TempDir()
	empty := write(t, filepath.Join(dir, "empty.toml"), "")
	for _, path := range []string{empty, filepath.Join(dir, "absent.toml"), filepath.Join(dir, "absent", "tokend.toml")} {
		got, _, err := config.Load(path)
		if err != nil {
			t.Errorf("Load(%s): %v", path, err)
		}
		if diff := cmp.Diff(config.Default(), got); diff != "" {
			t.Errorf("Load(%s) (-default +got):\n%s", path, diff)
		}
	}
}

func TestFileThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "tokend.toml"), "")
	dangling, loop := filepath.Join(dir, "dangling"), filepath.Join(dir, "loop")
	for link, target := range map[string]string{dangling: "absent", loop: "loop"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	large := write(t, filepath.Join(dir, "large.toml"), strings.Repeat("#", 1<<20+1))

	const remedy = "; let the user that runs tokend read it, or name another file"
	for _, tt := range []struct{ path, want string }{
		{"", "the name of the configuration file is empty; give its path"},
		{dir, dir + " is a directory; name the file, such as " + dir + "/tokend.toml"},
		{dangling, dangling + " is a link to nothing; mend it, or remove it for the defaults"},
		{loop, "open " + loop + ": too many levels of symbolic links" + remedy},
		{file + "/x", "open " + file + "/x: not a directory" + remedy},
		{large, large + " is larger than 1 MiB, which no configuration of tokend is; name another file"},
	} {
		got, _, err := config.Load(tt.path)
		if err == nil || err.Error() != tt.want {
			t.Errorf("Load(%q): %v\nwant: %s", tt.path, err, tt.want)
		}
		if diff := cmp.Diff(config.Config{}, got); diff != "" {
			t.Errorf("Load(%q) returned settings beside the error:\n%s", tt.path, diff)
		}
	}
}

func TestFileOfOneMebibyteIsRead(t *testing.T) {
	text := "[log]\nlevel = \"debug\"\n"
	path := write(t, filepath.Join(t.TempDir(), "tokend.toml"), text+strings.Repeat("#", 1<<20-len(text)))
	got, _, err := config.Load(path)
	if err != nil || got.Log.Level.String() != "DEBUG" {
		t.Errorf("Load: level %v, error %v", got.Log.Level, err)
	}
}

func TestErrorNamesTheFileAsGiven(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "my.toml", "\n[auht]\n")
	_, _, err := config.Load("./my.toml")
	const want = `./my.toml:2:2: there is no section "auht"; did you mean [auth]?`
	if err == nil || err.Error() != want {
		t.Errorf("Load: %v\nwant: %s", err, want)
	}
}

// In the shipped file a # before a key comments it out; one before a space
// begins a sentence.
var commentedOut = regexp.MustCompile(`(?m)^#([^ \n])`)

func TestShippedFileShowsTheDefaults(t *testing.T) {
	shipped, err := os.ReadFile("tokend.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"as shipped":  shipped,
		"uncommented": commentedOut.ReplaceAll(shipped, []byte("$1")),
	} {
		got, err := config.Parse("tokend.toml", data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(config.Default(), got); diff != "" {
			t.Errorf("%s (-default +got):\n%s", name, diff)
		}
	}
}

func TestShippedFileHasEveryKeyAndAWordOnEach(t *testing.T) {
	shipped, err := os.ReadFile("tokend.toml")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	var section string
	for line := range strings.Lines(string(shipped)) {
		if name, ok := strings.CutPrefix(line, "["); ok {
			section, _, _ = strings.Cut(name, "]")
		}
		if !commentedOut.MatchString(line) {
			continue
		}
		key, rest, _ := strings.Cut(line[1:], " = ")
		keys = append(keys, section+"."+key)
		if !strings.Contains(rest, " # ") {
			t.Errorf("%s.%s has no comment", section, key)
		}
	}
	if diff := cmp.Diff(config.Keys(), keys); diff != "" {
		t.Errorf("keys of the shipped file (-known +shipped):\n%s", diff)
	}
}

func TestEveryFieldHasAKey(t *testing.T) {
	fields := 0
	for _, section := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		fields += section.Type.NumField()
	}
	if fields != len(config.Keys()) {
		t.Errorf("%d fields, %d keys: %v", fields, len(config.Keys()), config.Keys())
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadSaysWhatItFound(t *testing.T) {
	dir := t.TempDir()
	for name, row := range map[string]struct {
		text string
		want config.Origin
	}{
		"empty": {"", config.Empty}, "blank": {" \n\t\n", config.Empty},
		"comment": {"# all defaults\n", config.File}, "keys": {"[auth]\npeers = ['root']\n", config.File},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, got, err := config.Load(path); got != row.want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", name, got, err, row.want)
		}
	}
	if _, got, err := config.Load(filepath.Join(dir, "absent")); got != config.Absent || err != nil {
		t.Errorf("absent: got %d, %v", got, err)
	}
}
