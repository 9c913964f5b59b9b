package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/store"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func TestFilesAreTheOwnersAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	top := t.TempDir()
	path := filepath.Join(top, "lib", "tokend", "tokend.db")
	mint(t, open(t, path))
	got := map[string]os.FileMode{}
	for _, name := range []string{"lib", "lib/tokend", "lib/tokend/tokend.db", "lib/tokend/tokend.db-wal",
		"lib/tokend/tokend.db-shm"} {
		info, err := os.Stat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = info.Mode().Perm()
	}
	want := map[string]os.FileMode{"lib": 0o700, "lib/tokend": 0o700, "lib/tokend/tokend.db": 0o600,
		"lib/tokend/tokend.db-wal": 0o600, "lib/tokend/tokend.db-shm": 0o600}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

func TestFileOpenToOthersIsWarnedOf(t *testing.T) {
	path := newPath(t)
	const file = "open to other users"
	for _, c := range []struct {
		mode     os.FileMode
		warnings []string
	}{
		{0o600, []string{"a new, empty database was made"}}, {0o640, []string{file}}, {0o604, []string{file}}, {0o600, nil},
	} {
		if err := os.Chmod(path, c.mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		var log bytes.Buffer
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		if got := strings.Count(log.String(), "level=WARN"); got != len(c.warnings) {
			t.Errorf("mode %v: %d warnings, want %q:\n%s", c.mode, got, c.warnings, &log)
		}
		for _, warning := range c.warnings {
			if !strings.Contains(log.String(), warning) {
				t.Errorf("mode %v: the log lacks %q:\n%s", c.mode, warning, &log)
			}
		}
	}
}

func TestPathMayHoldAnyCharacter(t *testing.T) {
	for _, name := range []string{"a b", "50%", "what?mode=ro", "#1", "%41", "ä&=;", `"'`} {
		path := filepath.Join(t.TempDir(), name, name+".db")
		s := open(t, path)
		wantRecord(t, s, mint(t, s))
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestRelativePathIsOpened(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "tokend.db")
	wantRecord(t, s, mint(t, s))
	if _, err := os.Stat("tokend.db"); err != nil {
		t.Error(err)
	}
	wantSentence(t, openFails(t, ""), "it has no path")
}

func TestSecondDaemonIsRefused(t *testing.T) {
	path := newPath(t)
	holder := startChild(t, "hold", path)
	if line, _ := holder.line(); line != "open" {
		t.Fatalf("the child says %q", line)
	}
	err := openFails(t, path)
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("got error %v, want %v", err, store.ErrLocked)
	}
	wantSentence(t, err, path, "another tokend", "pid "+strconv.Itoa(holder.cmd.Process.Pid), "stop that one first")

	holder.kill()
	if err := holder.cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	mint(t, open(t, path)) // the kernel has freed the lock
}

func TestSecondOpeningByTheSameProcessIsRefused(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	err := openFails(t, path)
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("got error %v, want %v", err, store.ErrLocked)
	}
	wantSentence(t, err, "pid "+strconv.Itoa(os.Getpid()))
	wantRecord(t, s, mint(t, s))
	closeStore(t, s)
	mint(t, open(t, path))
}

func TestSecondOpeningByALinkIsRefused(t *testing.T) {
	path, link := newPath(t), newPath(t)
	check(os.Symlink(path, link))
	wantSentence(t, openFails(t, link), link, "a link to nothing")
	open(t, path)
	hard := newPath(t)
	check(os.Link(path, hard))
	for _, other := range []string{link, hard} {
		if err := openFails(t, other); !errors.Is(err, store.ErrLocked) {
			t.Errorf("%s: got error %v, want %v", other, err, store.ErrLocked)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	closeStore(t, s)
	db := shell(t, path)
	for _, version := range []int64{4, 7} {
		run(t, db, fmt.Sprintf(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, true)`, version))
		err := openFails(t, path)
		var newer *store.NewerSchemaError
		if !errors.As(err, &newer) || *newer != (store.NewerSchemaError{Database: version, Known: 3}) {
			t.Errorf("got error %v, want a newer schema, %d instead of 1", err, version)
		}
		wantSentence(t, err, path, fmt.Sprintf("the database has schema version %d, this tokend knows up to 3: "+
			"run the newer tokend, or restore the backup made before the upgrade", version))
	}
	run(t, db, `DELETE FROM goose_db_version WHERE version_id > 3`)
	wantRecord(t, open(t, path), kept) // the refused opening has left nothing behind
}

func TestHalfMadeDatabaseIsFinished(t *testing.T) {
	path := newPath(t)
	db := shell(t, path) // as a daemon leaves it that was killed between goose's first transaction and the second
	run(t, db, `CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')))`)
	run(t, db, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true)`)
	s := open(t, path)
	wantRecord(t, s, mint(t, s))
}

func TestWhatIsNoDatabaseIsRefusedAndLeftAlone(t *testing.T) {
	for name, content := range map[string][]byte{
		"short text": []byte("hello\n"),
		"long text":  bytes.Repeat([]byte("hello\n"), 10_000),
		"zeros":      make([]byte, 8192),
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			wantSentence(t, openFails(t, path), path, "is not an SQLite database; name another file, or restore a backup")
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestDatabaseOfAnotherProgramIsRefusedAndLeftAlone(t *testing.T) {
	const cookies, versions = `CREATE TABLE cookies (name TEXT)`, `CREATE TABLE goose_db_version (version_id INTEGER, is_applied INTEGER)`
	for _, tables := range [][]string{{cookies}, {cookies, versions}} { // the other program may migrate as tokend does
		path := newPath(t)
		db := shell(t, path)
		for _, table := range tables {
			run(t, db, table)
		}
		check(db.Close())
		before, err := os.ReadFile(path)
		check(err)
		wantSentence(t, openFails(t, path), path, "not one of tokend's", "name another file")
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("the file was changed (%v)", err)
		}
	}
}

func TestDamagedDatabaseSaysSo(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	closeStore(t, s)
	content, err := os.ReadFile(path)
	check(err)
	check(os.WriteFile(path, append(content[:4096:4096], bytes.Repeat([]byte{0xa5}, len(content)-4096)...), 0o600))
	s, err = sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		defer closeStore(t, s)
		_, err = s.Lookup(t.Context(), kept.Digest)
	}
	wantSentence(t, err, path+" is damaged, or its disk fails", "see the kernel's log first", "restore a backup")
	if errors.Is(err, token.ErrNotFound) {
		t.Error("damage passes for an unknown token")
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	wantSentence(t, openFails(t, dir), dir, "it is a directory: name a file in it")

	fifo := filepath.Join(dir, "fifo")
	check(syscall.Mkfifo(fifo, 0o600))
	wantSentence(t, openFails(t, fifo), fifo, "it is no regular file")

	for _, companion := range []string{"-wal", "-shm", "-journal"} {
		path := newPath(t)
		check(syscall.Mkfifo(path+companion, 0o600))
		wantSentence(t, openFails(t, path), path+companion+" is in the way", "move it away")
	}

	file := filepath.Join(dir, "file")
	check(os.WriteFile(file, nil, 0o600))
	wantSentence(t, openFails(t, filepath.Join(file, "tokend.db")), file, "no directory")
}

func TestFileOfAnotherUserIsRefused(t *testing.T) {
	if !withoutPrivileges(t) {
		return
	}
	path := newPath(t)
	s := open(t, path)
	mint(t, s)
	closeStore(t, s)
	check(os.Chmod(path, 0))
	wantSentence(t, openFails(t, path), path, fmt.Sprintf("the user with uid %d may not", os.Geteuid()), "run tokend as the owner", "folder of its own")
	check(os.Chmod(filepath.Dir(path), 0))
	defer func() { check(os.Chmod(filepath.Dir(path), 0o700)) }()
	wantSentence(t, openFails(t, path), path, fmt.Sprintf("the user with uid %d may not", os.Geteuid()))
	check(os.Chmod(filepath.Dir(path), 0o500))
	folder := filepath.Join(filepath.Dir(path), "new")
	wantSentence(t, openFails(t, filepath.Join(folder, "tokend.db")), "make its folder: mkdir "+folder+": permission denied; make it (mode 700)")
}

// TestCompanionOfAnotherUserIsRefused: in a folder that others can write to, they
// can put one there while no daemon runs, and SQLite would believe it.
func TestCompanionOfAnotherUserIsRefused(t *testing.T) {
	if !withOwnMounts(t) { // as root
		return
	}
	for _, companion := range []string{"-wal", "-shm", "-journal"} {
		path := newPath(t)
		closeStore(t, open(t, path))
		check(os.WriteFile(path+companion, nil, 0o600))
		check(os.Chown(path+companion, 12345, -1))
		wantSentence(t, openFails(t, path), path+companion+" is of uid 12345", "chown", "move it away")
		check(os.Chown(path+companion, os.Geteuid(), -1))
		closeStore(t, open(t, path))
	}
}

// TestCompanionOfTheDaemonsUserIsBelieved, where the database is another's.
func TestCompanionOfTheDaemonsUserIsBelieved(t *testing.T) {
	if !withOwnMounts(t) { // as root
		return
	}
	path := newPath(t)
	closeStore(t, open(t, path))
	leaveWAL(t, path)
	check(os.Chmod(path, 0o666))
	for _, folder := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		check(os.Chmod(folder, 0o777))
	}
	for _, companion := range []string{"-wal", "-shm"} {
		check(os.Chown(path+companion, 12345, -1))
	}
	check(syscall.Seteuid(12345))
	defer func() { check(syscall.Seteuid(0)) }()
	mint(t, open(t, path))
}

// TestCompanionsAreAsClosedAsTheDatabase: SQLite made them as open as it was.
func TestCompanionsAreAsClosedAsTheDatabase(t *testing.T) {
	for _, c := range []struct{ database, before, after os.FileMode }{
		{0o600, 0o666, 0o600}, {0o600, 0o600, 0o600}, {0o640, 0o604, 0o600}, {0o640, 0o600, 0o600},
	} {
		path := newPath(t)
		closeStore(t, open(t, path))
		leaveWAL(t, path)
		for _, companion := range []string{"-wal", "-shm"} {
			check(os.Chmod(path+companion, c.before))
		}
		check(os.Chmod(path, c.database))
		open(t, path)
		for _, companion := range []string{"-wal", "-shm"} {
			if info, err := os.Stat(path + companion); err != nil || info.Mode().Perm() != c.after {
				t.Errorf("%+v: %s: %v, %v", c, companion, info.Mode(), err)
			}
		}
	}
}

func TestFileThatIsMountedByItselfIsRefused(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	path, place := newPath(t), newPath(t)
	closeStore(t, open(t, path))
	check(os.WriteFile(place, nil, 0o600))
	check(syscall.Mount(path, place, "", syscall.MS_BIND, ""))
	t.Cleanup(func() { check(syscall.Unmount(place, syscall.MNT_DETACH)) })
	wantSentence(t, openFails(t, place), place+" is mounted without its folder", "mount the folder")
	check(syscall.Mount(filepath.Dir(path), filepath.Dir(place), "", syscall.MS_BIND, ""))
	t.Cleanup(func() { check(syscall.Unmount(filepath.Dir(place), syscall.MNT_DETACH)) })
	mint(t, open(t, place))
}
