package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/socket"
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
	elsewhere := filepath.Join(top, "elsewhere")
	if err := errors.Join(
		os.Mkdir(elsewhere, 0o755),
		os.Symlink(file, filepath.Join(elsewhere, "link")),
		os.Symlink("../elsewhere", filepath.Join(folder, "on")),
		os.Mkdir(filepath.Join(elsewhere, "sub"), 0o755),
		os.Symlink("../../folder/file", filepath.Join(elsewhere, "sub", "up")), // from here it leads nowhere
		os.Symlink("link/on", filepath.Join(top, "chain")),
		os.Mkdir(filepath.Join(folder, "deeper"), 0o755),
		os.Symlink(file, filepath.Join(folder, "deeper", "link")),
	); err != nil {
		t.Fatal(err)
	}
	t.Chdir(folder)
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
		{"above it, sticky", top, 0o777 | os.ModeSticky, file, nil},
		{"its folder, sticky", folder, 0o777 | os.ModeSticky, file, []string{folder + " has mode 777"}},
		{"its folder not there, the one above sticky", folder, 0o777 | os.ModeSticky, filepath.Join(folder, "none", "none"), []string{folder + " has mode 777"}},
		{"behind a link", folder, 0o777, filepath.Join(link, "file"), []string{folder + " has mode 777"}},
		{"the file, seen by a link too", file, 0o664, filepath.Join(link, "file"), []string{filepath.Join(link, "file") + " has mode 664"}},
		{"above a link and then with the file", folder, 0o777, filepath.Join(folder, "deeper", "link"), []string{folder + " has mode 777"}},
		{"in the middle of links", folder, 0o777, filepath.Join(top, "chain", "other"), []string{folder + " has mode 777"}},
		{"behind the file's own link", folder, 0o777, filepath.Join(top, "elsewhere", "link"), []string{folder + " has mode 777"}},
		{"behind a link that is told from its own folder", folder, 0o777, filepath.Join(elsewhere, "sub", "up"), []string{folder + " has mode 777"}},
		{"above a link, sticky", top, 0o777 | os.ModeSticky, filepath.Join(elsewhere, "link"), nil},
		{"above a link and then with the file, sticky", folder, 0o777 | os.ModeSticky, filepath.Join(folder, "deeper", "link"), []string{folder + " has mode 777"}},
		{"above a relative path", top, 0o777, "file", []string{top + " has mode 777"}},
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
	asked := filepath.Join(link, "file")
	other := os.Geteuid() + 1
	for path, shown := range map[string]string{file: asked, folder: folder, link: link} {
		chown(t, other, path)
		if diff := cmp.Diff([]string{fmt.Sprintf("%s belongs to uid %d", shown, other)}, below(top, weakPlaces(asked))); diff != "" {
			t.Errorf("another owner (-want +got):\n%s", diff)
		}
		chown(t, os.Geteuid(), path)
	}
	chmod(folder, 0o755|os.ModeSticky) // in which its owner may rename all
	chown(t, other, folder)
	if diff := cmp.Diff([]string{fmt.Sprintf("%s belongs to uid %d", folder, other)}, below(top, weakPlaces(file))); diff != "" {
		t.Errorf("a sticky folder's owner (-want +got):\n%s", diff)
	}
	chown(t, os.Geteuid(), folder)

	listener, err := net.Listen("unix", filepath.Join(top, "s")) // which says by itself who may ask
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	chmod(filepath.Join(top, "s"), 0o666)
	if weak := below(top, weakPlaces(filepath.Join(top, "s"))); weak != nil {
		t.Errorf("a socket: %q", weak)
	}
}

// chown gives a file, or a link itself, to a user.
func chown(t *testing.T, uid int, path string) {
	t.Helper()
	args := []string{"chown", "--no-dereference", strconv.Itoa(uid), path}
	if os.Geteuid() != 0 {
		args = append([]string{"sudo", "-n"}, args...)
	}
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("this test gives files to others: run it as root, or where sudo wants no password: %v\n%s", err, out)
	}
}

// TestAllThatIsTrustedIsLookedAt, each in a folder of its own.
func TestAllThatIsTrustedIsLookedAt(t *testing.T) {
	top := t.TempDir()
	place := func(name string, mode os.FileMode) string {
		t.Helper()
		folder := filepath.Join(top, name)
		path := filepath.Join(folder, "file")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644), os.Chmod(folder, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil)), path: place("config", 0o777)}
	n.cfg.Store.URL = "sqlite:" + place("state", 0o777)
	n.cfg.Auth.Socket, n.cfg.Admin.Socket = place("auth", 0o777), place("admin", 0o777)
	n.warnOfPlaces()
	for name, what := range map[string]string{
		"config": "what=configuration", "state": "what=database", "auth": `what="auth socket"`, "admin": `what="admin socket"`,
	} {
		if !strings.Contains(log.String(), what) || !strings.Contains(log.String(), filepath.Join(top, name)+` has mode 777" danger="they can`) {
			t.Errorf("the log lacks %q of %s:\n%s", what, name, &log)
		}
	}
}

// TestFolderThatKeepsPeersOutIsTold at the start and at each reload, which both let
// them in.
func TestFolderThatKeepsPeersOutIsTold(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	peers, _ := socket.ResolvePeers([]string{"64001"})
	listener, err := socket.Listen(t.Context(), filepath.Join(folder, "s"), peers)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
	n.letIn(socket.NewGuard(listener, peers, n.log, socket.NewRejections(nil)), "auth", peers)
	if want := "peers cannot get to the socket"; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "folder="+folder+" mode=700") {
		t.Errorf("the log lacks %q of %s:\n%s", want, folder, &log)
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
		for socketMode, open := range map[os.FileMode]bool{0o600: false, 0o660: true, 0o666: true} {
			top := t.TempDir()
			closed, inner, link := filepath.Join(top, "closed"), filepath.Join(top, "closed", "inner"), filepath.Join(top, "link")
			if err := errors.Join(os.MkdirAll(inner, 0o755), os.Symlink(inner, link)); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{filepath.Join(closed, "s"), filepath.Join(inner, "s")} {
				if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, socketMode)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(closed, mode); err != nil {
				t.Fatal(err)
			}
			for _, folder := range []string{closed, inner, link} { // the one that is closed, one in it, and a link to that
				var log bytes.Buffer
				warnOfClosed(slog.New(slog.NewTextHandler(&log, nil)), filepath.Join(folder, "s"))
				if got := strings.Contains(log.String(), fmt.Sprintf("folder=%s mode=%o", closed, mode)); got != (told && open) {
					t.Errorf("%s, folder %o, socket %o: the log says %q", folder, mode, socketMode, &log)
				}
			}
		}
	}
}
