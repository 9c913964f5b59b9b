package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// TestFileThatWasReplacedTakesNoChanges: an admin restores a backup under a
// running daemon.
func TestFileThatWasReplacedTakesNoChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokend.db")
	s := open(t, path)
	kept := mint(t, s)
	check(os.Rename(path, path+".old"))
	for _, there := range []bool{false, true} {
		if there {
			check(os.WriteFile(path, nil, 0o600))
		}
		wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "was moved or replaced", "put it back", "start tokend again", "look-ups go on")
		wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
		wantRecord(t, s, kept)
	}
	check(os.Rename(path+".old", path))
	mint(t, s)
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("put back: %v", err)
	}
}

// TestBackupPutInPlaceIsNotMixedWithWhatWasThere: many logins at once need all
// connections, and none may open the backup, in which a token is good that was
// revoked since. Nor may the -wal of the old file be applied to it.
func TestBackupPutInPlaceIsNotMixedWithWhatWasThere(t *testing.T) {
	for _, told := range []string{"", "change", "ping"} { // what was tried before the end
		path := filepath.Join(t.TempDir(), "tokend.db")
		s := open(t, path)
		kept := mint(t, s)
		run(t, shell(t, path), `VACUUM INTO '`+path+`.backup'`)
		if _, err := s.Revoke(t.Context(), token.Selection{ID: kept.ID}, now, revoked); err != nil {
			t.Fatal(err)
		}
		check(os.Rename(path, path+".old"))
		check(os.Rename(path+".backup", path))
		var logins sync.WaitGroup
		for range 20 {
			logins.Go(func() {
				for range 50 {
					if r, err := s.Lookup(t.Context(), kept.Digest); err != nil || r.Revoked.IsZero() {
						t.Errorf("got revoked at %v, error %v", r.Revoked, err)
						return
					}
				}
			})
		}
		logins.Wait()
		switch told {
		case "change":
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
		case "ping":
			wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
		}
		folded := func() {
			if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
				t.Errorf("told by a %s: the -wal has still %d bytes", told, info.Size())
			}
		}
		if told != "" {
			folded()
		}
		wantSentence(t, s.Close(), path+" was moved or replaced", "its last changes are in "+path+".old, and in nothing")
		folded()
		kept.Revoked = time.Time{}
		s = open(t, path)
		wantRecord(t, s, kept)
		closeStore(t, s)
		wantConsistent(t, path)
		wantConsistent(t, path+".old")
	}
}

// TestFileThatIsReadIsMoved: for the reader's sake not all of the -wal can be folded into
// it. That it is, is left to an admin, and nothing is started meanwhile.
func TestFileThatIsReadIsMoved(t *testing.T) {
	for _, companion := range []string{"", "-wal", "-shm"} { // what else was moved away
		path := newPath(t)
		s := open(t, path)
		kept := mint(t, s)
		run(t, shell(t, path), `VACUUM INTO '`+path+`.backup'`)
		reader, err := shell(t, path).BeginTx(t.Context(), nil)
		check(err)
		var users int
		check(reader.QueryRowContext(t.Context(), `SELECT count(*) FROM users`).Scan(&users))
		late := mint(t, s)
		check(os.Rename(path, path+".old"))
		if companion != "" {
			check(os.Rename(path+companion, path+".old"+companion))
		}
		wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
		const words = " was moved, removed or replaced while tokend had it open"
		wantSentence(t, s.Close(), path+words, "take the date from their names", "move them elsewhere")
		wantSentence(t, openFails(t, path), path+words)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file was made in its place (%v)", err)
		}
		check(os.Rename(path+".backup", path))
		wantSentence(t, openFails(t, path), path+words)

		aside, err := filepath.Glob(path + "-???-*Z")
		check(err)
		for _, file := range aside { // elsewhere, which is where they belong
			check(os.Rename(file, path+".old"+file[len(path):len(path)+len("-wal")]))
		}
		s = open(t, path)
		wantRecord(t, s, kept)
		if _, err := s.Lookup(t.Context(), late.Digest); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("a token that is not in the backup: got error %v, want %v", err, token.ErrNotFound)
		}
		mint(t, s)
		closeStore(t, s)
		wantConsistent(t, path)

		check(reader.Rollback())
		path = filepath.Join(copied(t, filepath.Dir(path)), filepath.Base(path)+".old")
		s = open(t, path)
		wantRecord(t, s, kept)
		wantRecord(t, s, late)
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// TestChangesOfAFileThatIsCopiedAndRemovedAreKept, as mv does to another file system:
// put back, it gets its last changes back as well, though a snapshot made of links has it still.
func TestChangesOfAFileThatIsCopiedAndRemovedAreKept(t *testing.T) {
	for i := range 4 {
		told, linked := i&1 != 0, i&2 != 0
		path := newPath(t)
		s := open(t, path)
		kept := mint(t, s)
		closeStore(t, s)
		s = open(t, path)
		if linked {
			check(os.Link(path, path+".snapshot"))
			check(os.WriteFile(path+" (deleted)", nil, 0o600)) // as the kernel will call the file
		}
		_, err := s.Revoke(t.Context(), token.Selection{ID: kept.ID}, now, revoked)
		check(err)
		content, err := os.ReadFile(path)
		check(err)
		check(os.Remove(path))
		if told {
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
		}
		check(os.WriteFile(path, content, 0o600))
		wantSentence(t, s.Close(), "its last changes are in "+path+"-wal-")
		wantSentence(t, openFails(t, path), "take the date from their names")
		aside, err := filepath.Glob(path + "-???-*Z")
		check(err)
		for _, file := range aside {
			check(os.Rename(file, file[:len(path)+len("-wal")]))
		}
		path = filepath.Join(copied(t, filepath.Dir(path)), filepath.Base(path))
		s = open(t, path)
		if r, err := s.Lookup(t.Context(), kept.Digest); err != nil || r.Revoked.IsZero() {
			t.Errorf("told %t, linked %t: revoked at %v, %v", told, linked, r.Revoked, err)
		}
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// TestLinkInTheFilesPlaceTakesNoChanges: it leads to the file, and away from its -wal.
func TestLinkInTheFilesPlaceTakesNoChanges(t *testing.T) {
	for _, moved := range []string{"", "-wal", "-shm"} {
		path := newPath(t)
		s := open(t, path)
		mint(t, s)
		there := filepath.Join(t.TempDir(), "there")
		check(os.Rename(path+moved, there))
		check(os.Symlink(there, path+moved))
		wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path+moved+" was moved or replaced")
		wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
		check(os.Rename(there, path+moved))
		mint(t, s)
	}
}

// TestChangesOfAFileThatIsGoneAreKept: the daemon was killed, and the file moved away
// alone, or emptied. A new one in its place would throw its last changes away.
func TestChangesOfAFileThatIsGoneAreKept(t *testing.T) {
	for _, empty := range []bool{false, true} {
		path := newPath(t)
		leaveWAL(t, path)
		check(os.Rename(path, path+".away"))
		if empty {
			check(os.WriteFile(path, nil, 0o600))
		}
		wantSentence(t, openFails(t, path), "it is missing or empty, and "+path+"-wal has the last changes", "put that back", "move that and "+path+"-shm elsewhere")
		check(os.Rename(path+".away", path))
		s := open(t, path)
		if records, err := s.Records(t.Context(), token.Page{Limit: 10}); err != nil || len(records) == 0 {
			t.Errorf("%d tokens, %v", len(records), err)
		}
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// TestNothingIsReadFromWhatTookTheFilesPlace: all connections were lost.
func TestNothingIsReadFromWhatTookTheFilesPlace(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	run(t, shell(t, path), `VACUUM INTO '`+path+`.backup'`)
	check(os.Rename(path, path+".old"))
	check(os.Rename(path+".backup", path))
	s.Reconnect()
	_, err := s.Lookup(t.Context(), kept.Digest)
	wantSentence(t, err, "was moved or replaced")
	check(os.Rename(path+".old", path))
	wantRecord(t, s, kept)
}

// TestDaemonOnWhatTookTheFilesPlaceIsRefused: the two would share the -wal, and
// what the second keeps in it the first would carry away.
func TestDaemonOnWhatTookTheFilesPlaceIsRefused(t *testing.T) {
	for name, before := range map[string]func(path string){
		"a new file": func(string) {},
		"a new file beside an old -wal": func(path string) { // SQLite makes another
			check(os.WriteFile(path+"-wal", make([]byte, 32), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			before(path)
			s := open(t, path)
			mint(t, s)
			run(t, shell(t, path), `VACUUM INTO '`+path+`.backup'`)
			check(os.Rename(path, path+".old"))
			check(os.Rename(path+".backup", path))
			before, err := os.Stat(path + "-wal")
			check(err)
			if err := openFails(t, path); !errors.Is(err, store.ErrLocked) {
				t.Errorf("got error %v, want %v", err, store.ErrLocked)
			}
			if after, err := os.Stat(path + "-wal"); err != nil || !os.SameFile(before, after) || before.Size() != after.Size() {
				t.Errorf("the -wal was changed (%v)", err)
			}
			wantSentence(t, s.Close(), "its last changes are in "+path+".old")
			mint(t, open(t, path))
		})
	}
}

// TestLoginsGoOnWhenTheFileIsMovedAway, whichever of the connections they get.
func TestLoginsGoOnWhenTheFileIsMovedAway(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	check(os.Rename(path, path+".away"))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				_ = s.Ping(t.Context()) // says no
				wantRecord(t, s, kept)
			}
		})
	}
	all.Wait()
	check(os.Rename(path+".away", path))
}

func TestFolderThatWasClosedTakesNoChanges(t *testing.T) {
	if !withoutPrivileges(t) {
		return
	}
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	check(os.Chmod(filepath.Dir(path), 0))
	wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "it can no more be seen whether "+path, "chmod 700", "look-ups go on")
	wantRecord(t, s, kept)
	check(os.Chmod(filepath.Dir(path), 0o700))
	mint(t, s)
}

// TestRemovedCompanionTakesNoChanges: somebody clears up under a running daemon.
// What was in the -wal would be lost when the daemon is killed. Without the -shm,
// another program, such as sqlite3, would make itself one of its own, and fold
// the -wal into the file while the daemon still adds to it.
func TestRemovedCompanionTakesNoChanges(t *testing.T) {
	for _, companion := range []string{"-wal", "-shm"} {
		t.Run(companion, func(t *testing.T) {
			path := newPath(t)
			s := open(t, path)
			kept := mint(t, s)
			check(os.Rename(path+companion, path+"-gone"))
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path+companion, "was moved or replaced")
			wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
			wantRecord(t, s, kept)
			check(os.Rename(path+"-gone", path+companion))
			mint(t, s)
		})
	}
}

// TestWhatAnotherProgramMadeWithoutTheCompanionIsLeftAlone: it has made a -shm of its
// own, and may have folded the -wal into the file. What the daemon knows of the -wal is
// of another one.
func TestWhatAnotherProgramMadeWithoutTheCompanionIsLeftAlone(t *testing.T) {
	for _, folds := range []bool{true, false} {
		path := newPath(t)
		daemon := startChild(t, "stray", path)
		if line, _ := daemon.line(); line != "minted" {
			t.Fatalf("the child says %q", line)
		}
		check(os.Remove(path + "-shm"))
		db := shell(t, path)
		if folds {
			run(t, db, `PRAGMA wal_checkpoint(TRUNCATE)`)
		}
		for i := range 50 {
			run(t, db, fmt.Sprintf(`INSERT INTO users (name) VALUES ('user%d')`, i))
		}
		check(daemon.stdin.Close())
		for range 2 { // the change, and the end
			if line, _ := daemon.line(); !strings.Contains(line, path+"-shm was moved or re") {
				t.Errorf("the child says %q", line)
			}
		}
		check(daemon.cmd.Wait())
		check(db.Close())
		s := open(t, path)
		if users, err := s.Users(t.Context(), token.UserPage{Limit: 1000}, now, token.Forever); err != nil || len(users) != 51 {
			t.Errorf("%d users, %v", len(users), err)
		}
		if records, err := s.Records(t.Context(), token.Page{Limit: 10}); err != nil || len(records) != 5 {
			t.Errorf("%d tokens, %v", len(records), err)
		}
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// TestTheDaemonItselfNeverRemovesItsFileOfChanges, though connections come and go.
func TestTheDaemonItselfNeverRemovesItsFileOfChanges(t *testing.T) {
	s := open(t, newPath(t))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = s.Mint(ctx, newRecord(), token.Quota{}, created) // may be cancelled at any place
		_, _ = s.Users(ctx, token.UserPage{Limit: 1000}, now, token.Forever)
		mint(t, s)
	}
}

// copied is a copy of the folder, whose files are as after the end of the process.
func copied(t *testing.T, folder string) string {
	t.Helper()
	dir := t.TempDir()
	check(os.CopyFS(dir, os.DirFS(folder)))
	return dir
}
