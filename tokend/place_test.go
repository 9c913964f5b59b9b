package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlacesThatOthersCanWriteAreNamed(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder, file := filepath.Join(top, "folder"), filepath.Join(top, "folder", "file")
	link := filepath.Join(top, "link")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	chmod := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(top, 0o755)
	for _, c := range []struct {
		what, path string
		mode       os.FileMode
		asked      string
		weak       []string
	}{
		{"all is well", file, 0o644, file, nil},
		{"the file, for its group", file, 0o664, file, []string{file + " has mode 664"}},
		{"the file, for all", file, 0o646, file, []string{file + " has mode 646"}},
		{"its folder", folder, 0o775, file, []string{folder + " has mode 775"}},
		{"its folder, the file not there", folder, 0o757, filepath.Join(folder, "none"), []string{folder + " has mode 757"}},
		{"the folder above", top, 0o777, file, []string{top + " has mode 777"}},
		{"sticky", top, 0o777 | os.ModeSticky, file, nil},
		{"behind a link", folder, 0o777, filepath.Join(link, "file"), []string{link + " has mode 777", folder + " has mode 777"}},
	} {
		before, err := os.Stat(c.path)
		if err != nil {
			t.Fatal(err)
		}
		chmod(c.path, c.mode)
		if diff := cmp.Diff(c.weak, below(top, weakPlaces(c.asked))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
		chmod(c.path, before.Mode().Perm())
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(folder, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{folder + " belongs to uid 12345"}, below(top, weakPlaces(file))); diff != "" {
		t.Errorf("another owner (-want +got):\n%s", diff)
	}
}

// below leaves out what is not the test's own.
func below(top string, places []string) (own []string) {
	for _, place := range places {
		if strings.HasPrefix(place, top) {
			own = append(own, place)
		}
	}
	return own
}

func TestSocketInAClosedFolderIsTold(t *testing.T) {
	for mode, told := range map[os.FileMode]bool{0o700: true, 0o744: true, 0o710: false, 0o755: false} {
		for socketMode, open := range map[os.FileMode]bool{0o600: false, 0o666: true} {
			folder := filepath.Join(t.TempDir(), "folder")
			path := filepath.Join(folder, "s")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, socketMode); err != nil {
				t.Fatal(err)
			}
			for path, mode := range map[string]os.FileMode{folder: mode, path: socketMode} {
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			warnOfClosed(slog.New(slog.NewTextHandler(&log, nil)), path)
			if got := strings.Contains(log.String(), "folder="+folder+fmt.Sprintf(" mode=%o", mode)); got != (told && open) {
				t.Errorf("folder %o, socket %o: the log says %q", mode, socketMode, &log)
			}
		}
	}
}
