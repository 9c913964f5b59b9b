package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	for _, told := range []bool{false, true} { // whether a change was tried before the end
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
		if told {
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
		} else {
			closeStore(t, s)
		}
		if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
			t.Errorf("told %t: the -wal has still %d bytes", told, info.Size())
		}
		closeStore(t, s)
		kept.Revoked = time.Time{}
		s = open(t, path)
		wantRecord(t, s, kept)
		closeStore(t, s)
		wantConsistent(t, path)
		wantConsistent(t, path+".old")
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
			leaveWAL(t, path)
			check(os.Remove(path))
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
			closeStore(t, s)
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

func TestLinkThatLeadsElsewhereTakesNoChanges(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"one", "two"} {
		closeStore(t, open(t, filepath.Join(folder, name, "tokend.db")))
	}
	link := filepath.Join(folder, "link")
	check(os.Symlink("one", link))
	s := open(t, filepath.Join(link, "tokend.db"))
	kept := mint(t, s)
	check(os.Remove(link))
	check(os.Symlink("two", link))
	wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
	wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
	wantRecord(t, s, kept)
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
// own, and folded the -wal into the file. What the daemon knows of the -wal is of
// another one.
func TestWhatAnotherProgramMadeWithoutTheCompanionIsLeftAlone(t *testing.T) {
	path := newPath(t)
	daemon := startChild(t, "stray", path)
	if line, _ := daemon.line(); line != "minted" {
		t.Fatalf("the child says %q", line)
	}
	check(os.Remove(path + "-shm"))
	db := shell(t, path)
	run(t, db, `PRAGMA wal_checkpoint(TRUNCATE)`)
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
	if users, err := s.Users(t.Context(), now, token.Forever); err != nil || len(users) != 51 {
		t.Errorf("%d users, %v", len(users), err)
	}
	if records, err := s.Records(t.Context(), token.Page{Limit: 10}); err != nil || len(records) != 5 {
		t.Errorf("%d tokens, %v", len(records), err)
	}
	closeStore(t, s)
	wantConsistent(t, path)
}

// TestTheDaemonItselfNeverRemovesItsFileOfChanges, though connections come and go.
func TestTheDaemonItselfNeverRemovesItsFileOfChanges(t *testing.T) {
	s := open(t, newPath(t))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_ = s.Mint(ctx, newRecord(), token.Quota{}, created) // may be cancelled at any place
		_, _ = s.Users(ctx, now, token.Forever)
		mint(t, s)
	}
}

// TestCutWALTakesNoChanges: somebody wants room on the disk. What was in it is lost,
// and what came behind the gap would be, too. The end of the daemon makes it no worse.
func TestCutWALTakesNoChanges(t *testing.T) {
	for name, cut := range map[string]func(size int64) int64{
		"all": func(int64) int64 { return 0 }, "half": func(size int64) int64 { return size / 2 }, "a byte": func(size int64) int64 { return size - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			s := open(t, path)
			kept := mint(t, s)
			closeStore(t, s) // folds it into the file
			s = open(t, path)
			for i := range 20 {
				r := newRecord()
				r.Owner = fmt.Sprintf("user%d", i)
				check(s.Mint(t.Context(), r, token.Quota{}, created))
			}
			mint(t, s)
			file, err := os.ReadFile(path)
			check(err)
			whole, err := os.Stat(path + "-wal")
			check(err)
			left := cut(whole.Size())
			check(os.Truncate(path+"-wal", left))
			for range 2 {
				err := s.Mint(t.Context(), newRecord(), token.Quota{}, created)
				wantUnwritable(t, err, path+"-wal was cut short", "look-ups may fail", "start tokend again")
				if strings.Contains(err.Error(), "look-ups go on") {
					t.Errorf("it says that look-ups go on: %v", err)
				}
				wantSentence(t, s.Ping(t.Context()), "-wal", "cut")
			}
			wantSentence(t, s.Close(), "-wal was cut short", "left as it is")
			if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() != left {
				t.Errorf("the -wal was changed (%v)", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, file) {
				t.Errorf("the file was changed (%v)", err)
			}
			next := t.TempDir() // as after the end of the process
			check(os.CopyFS(next, os.DirFS(filepath.Dir(path))))
			path = filepath.Join(next, filepath.Base(path))
			s = open(t, path)
			wantRecord(t, s, kept)
			mint(t, s)
			closeStore(t, s)
			wantConsistent(t, path)
		})
	}
}

// TestCutWALTakesNoLargeChange, of which SQLite writes a part before its end, behind the
// gap; nor is the largest page there is mistaken for the smallest.
func TestCutWALTakesNoLargeChange(t *testing.T) {
	path := newPath(t)
	closeStore(t, open(t, path))
	db := shell(t, path)
	for _, statement := range []string{
		`PRAGMA journal_mode = DELETE`, `PRAGMA page_size = 65536`, `VACUUM`, `INSERT INTO users (name) VALUES ('alice')`,
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
		 INSERT INTO tokens (id, digest, owner, hint, label, created) SELECT 'id' || i, printf('%0128x', i), 'alice', '', '', i FROM n`,
	} {
		run(t, db, statement)
	}
	check(db.Close())
	s := open(t, path)
	lost := mint(t, s)
	whole, err := os.Stat(path + "-wal")
	check(err)
	left := whole.Size() / 2
	check(os.Truncate(path+"-wal", left))
	for range 2 {
		_, err := s.Revoke(t.Context(), token.Selection{Owner: "alice"}, now, revoked)
		wantUnwritable(t, err, "-wal was cut short")
		if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() != left {
			t.Errorf("the -wal was written to (%v)", err)
		}
	}
	check(os.Truncate(path+"-wal", 2*whole.Size())) // a change under way has written behind the gap
	wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "-wal was cut short")
	check(os.Truncate(path+"-wal", 0))
	_, err = s.Lookup(t.Context(), lost.Digest)
	wantSentence(t, err, "-wal, is shorter than it was: was it cut?")
	wantSentence(t, s.Close(), "-wal was cut short", "left as it is")
}

// TestAnotherProgramMayFoldTheWAL, as sqlite3 does when it is asked to: then it is
// short, and whole.
func TestAnotherProgramMayFoldTheWAL(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	folding := shell(t, path)
	ctx, end := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			if err := s.InPlace(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		mint(t, s)
		run(t, folding, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	end()
	looking.Wait()
}
