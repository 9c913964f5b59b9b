package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func TestLookUpsGoOnWhenTheDiskIsFull(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
	t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	s := open(t, filepath.Join(dir, "tokend.db"))
	kept := []token.Record{mint(t, s), mint(t, s)}
	filler := filepath.Join(dir, "filler")
	fill(t, filler)

	err := s.Mint(t.Context(), newRecord(), token.Quota{}, created)
	for err == nil { // what the file system had still reserved
		err = s.Mint(t.Context(), newRecord(), token.Quota{}, created)
	}
	wantUnwritable(t, err, "the disk is full; free some space", "look-ups go on")
	_, err = s.Revoke(t.Context(), token.Selection{Owner: "alice"}, now, revoked)
	wantUnwritable(t, err, "the disk is full; free some space")
	_, _, err = s.SetDisabled(t.Context(), "alice", true, now, created)
	wantUnwritable(t, err, "the disk is full; free some space")
	for _, r := range kept {
		wantRecord(t, s, r)
	}
	if _, err := s.Records(t.Context(), token.Page{Limit: 1000}); err != nil {
		t.Error(err)
	}

	check(os.Remove(filler))
	wantRecord(t, s, mint(t, s))
	for _, r := range kept {
		wantRecord(t, s, r)
	}
	closeStore(t, s)
	wantConsistent(t, filepath.Join(dir, "tokend.db"))
}

func TestDaemonThatStartsOnAFullDiskAnswersLookUps(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	for _, c := range crashes {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			dir := t.TempDir()
			check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"))
			t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
			path := filepath.Join(dir, "tokend.db")
			s := open(t, path)
			kept := mint(t, s)
			closeStore(t, s)
			if c.unclean {
				leaveWAL(t, path)
				check(os.Remove(path + "-shm")) // else its room would be enough to start
			}
			filler := filepath.Join(dir, "filler")
			fill(t, filler)
			s = open(t, spelled(t, path, c.linked))
			wantAllKept(t, s, kept, c.unclean)
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "is read-only", "start tokend again", "look-ups go on")
			wantUnwritable(t, openFails(t, filepath.Join(dir, "new.db")), "new.db", "full", "free some space")
			closeStore(t, s)
			check(os.Remove(filler))
			mint(t, open(t, path))
		})
	}
}

// TestDaemonThatStartsWithoutRoomForAFileAnswersLookUps: the file system has space
// left, and no inode.
func TestDaemonThatStartsWithoutRoomForAFileAnswersLookUps(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,nr_inodes=8"))
	t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	path := filepath.Join(dir, "tokend.db")
	s := open(t, path)
	kept := mint(t, s)
	closeStore(t, s)
	var fillers []string
	for {
		file, err := os.CreateTemp(dir, "filler")
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		check(err)
		check(file.Close())
		fillers = append(fillers, file.Name())
	}
	s = open(t, path)
	wantRecord(t, s, kept)
	wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "start tokend again", "look-ups go on")
	closeStore(t, s)
	check(os.Remove(fillers[0]))
	wantUnwritable(t, openFails(t, filepath.Join(dir, "new.db")), "new.db", "cannot be opened", "room", "df -i")
	for _, filler := range fillers[1:] {
		check(os.Remove(filler))
	}
	mint(t, open(t, path))
}

// TestFolderThatTakesNoMoreFilesIsReadFrom: that is all that a quota says, too.
func TestFolderThatTakesNoMoreFilesIsReadFrom(t *testing.T) {
	if !withoutPrivileges(t) {
		return
	}
	for _, c := range crashes {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			path := newPath(t)
			s := open(t, path)
			kept := mint(t, s)
			closeStore(t, s)
			if c.unclean {
				leaveWAL(t, path)
				check(os.Remove(path + "-shm")) // else none has to be made
			}
			check(os.Chmod(filepath.Dir(path), 0o500))
			t.Cleanup(func() { check(os.Chmod(filepath.Dir(path), 0o700)) })
			s = open(t, spelled(t, path, c.linked))
			wantAllKept(t, s, kept, c.unclean)
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "make it, its folder", "start tokend again", "look-ups go on")
			closeStore(t, s)
			check(os.Chmod(filepath.Dir(path), 0o700))
			wantAllKept(t, open(t, path), kept, c.unclean)
		})
	}
}

// fill writes to the file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	check(err)
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	check(file.Close())
}

func wantUnwritable(t *testing.T, err error, words ...string) {
	t.Helper()
	if !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("got error %v, want %v", err, store.ErrUnwritable)
	}
	wantSentence(t, err, words...)
}

func TestNothingElseHoldsLoginsUp(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	check(s.Occupy(ctx))
	wantRecord(t, s, kept)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyFileSystemIsOpenedForLookUps(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	for _, c := range crashes {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			dir := t.TempDir()
			check(syscall.Mount("tmpfs", dir, "tmpfs", 0, ""))
			t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
			path := filepath.Join(dir, "tokend.db")
			s := open(t, path)
			kept := mint(t, s)
			closeStore(t, s)
			if c.unclean {
				leaveWAL(t, path)
				check(os.Chmod(path+"-wal", 0o644)) // more open than the database, and to stay so
				if c.bare {
					check(os.Remove(path + "-shm"))
				}
			} else if c.bare {
				check(os.WriteFile(path+"-wal", nil, 0o600))
			}
			check(syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
			s = open(t, spelled(t, path, c.linked))
			wantAllKept(t, s, kept, c.unclean)
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "is read-only; make it, its folder and its file system writable")
			wantRecord(t, s, kept)
		})
	}
}

func TestReadOnlyFileSystemWithoutADatabaseIsRefused(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	check(syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, ""))
	t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	path := filepath.Join(dir, "tokend.db")
	wantSentence(t, openFails(t, path), path, "it is missing and cannot be made on a read-only file system")
	further := filepath.Join(dir, "further")
	wantSentence(t, openFails(t, filepath.Join(further, "tokend.db")), further, "read-only file system")
}

func TestLockedDatabaseIsReadAndSaysWhyItCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	conn, err := shell(t, path).Conn(t.Context())
	check(err)
	_, err = conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	check(err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = s.Mint(ctx, newRecord(), token.Quota{}, created)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: got error %v, want %v at once", took, err, context.DeadlineExceeded)
	}
	wantRecord(t, s, kept)

	began = time.Now()
	err = s.Mint(context.Background(), newRecord(), token.Quota{}, created)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the writer waited for %v", took)
	}
	wantSentence(t, err, path, "another program, a backup say, keeps", "locked")

	_, err = conn.ExecContext(t.Context(), `ROLLBACK`)
	check(err)
	mint(t, s)
}

func TestLookUpThatHangsEndsAfterASecond(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	wantRecord(t, s, kept)
	blocker := startChild(t, "block readers", path)
	if line, _ := blocker.line(); line != "locked" {
		t.Fatalf("the child says %q", line)
	}

	began := time.Now()
	_, err := s.Lookup(context.Background(), kept.Digest)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
		t.Errorf("after %v: got error %v, want %v after a second", took, err, context.DeadlineExceeded)
	}
	wantSentence(t, err, "no answer from "+path+" within 1s")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = s.Lookup(ctx, kept.Digest)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: got error %v, want %v at once", took, err, context.DeadlineExceeded)
	}

	check(blocker.stdin.Close())
	check(blocker.cmd.Wait())
	wantRecord(t, s, kept)
}

// TestWhatACommitThatHangsIsAboutIsKnown: the disk takes longer than a change
// may, and then the change is there.
func TestWhatACommitThatHangsIsAboutIsKnown(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	for _, change := range []struct {
		name string
		do   func(context.Context) (token.Digest, error)
		made func(token.Record) bool
	}{
		{"disable", func(ctx context.Context) (token.Digest, error) {
			digests, _, err := s.SetDisabled(ctx, "alice", true, now, created)
			return append(digests, token.Digest{})[0], err
		}, func(r token.Record) bool { return r.OwnerDisabled }},
		{"revoke", func(ctx context.Context) (token.Digest, error) {
			records, err := s.Revoke(ctx, token.Selection{ID: kept.ID}, now, revoked)
			return append(records, token.Record{})[0].Digest, err
		}, func(r token.Record) bool { return !r.Revoked.IsZero() }},
	} {
		held, goOn := make(chan struct{}), make(chan struct{})
		check(s.AtCommit(t.Context(), func() {
			close(held)
			<-goOn
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-held
			cancel()
		}()
		digest, err := change.do(ctx)
		if digest != kept.Digest || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got the digest %.8s and error %v", change.name, digest, err)
		}
		if r, err := s.Lookup(t.Context(), kept.Digest); err != nil || change.made(r) {
			t.Errorf("%s: made before the commit's end (%v)", change.name, err)
		}
		close(goOn)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if r, err := s.Lookup(t.Context(), kept.Digest); err == nil && change.made(r) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not made after the commit's end", change.name)
			}
		}
	}
}

// TestChangeAndItsEntryAreOneCommit: none is ever there without the other.
func TestChangeAndItsEntryAreOneCommit(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	commits := 0
	check(s.AtCommit(t.Context(), func() { commits++ }))
	for name, change := range everyChange(s, kept) {
		commits = 0
		if err := change(t.Context()); err != nil || commits != 1 {
			t.Errorf("%s: %d commits, %v", name, commits, err)
		}
	}
}

// TestChangeWithoutItsEntryIsNotMade has the audit trail refuse all entries.
func TestChangeWithoutItsEntryIsNotMade(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	run(t, shell(t, path), `CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more entries'); END`)
	for name, change := range everyChange(s, kept) {
		if err := change(t.Context()); err == nil || !strings.Contains(err.Error(), "no more entries") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	wantRecord(t, s, kept)
	if records, err := s.Records(t.Context(), token.Page{Limit: 10}); len(records) != 1 || err != nil {
		t.Errorf("%d tokens are kept (%v)", len(records), err)
	}
}

func everyChange(s *sqlite.Store, kept token.Record) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"mint": func(ctx context.Context) error { return s.Mint(ctx, newRecordOf("bob"), token.Quota{}, created) },
		"disable": func(ctx context.Context) error {
			_, _, err := s.SetDisabled(ctx, kept.Owner, true, now, created)
			return err
		},
		"revoke": func(ctx context.Context) error {
			_, err := s.Revoke(ctx, token.Selection{ID: kept.ID}, now, revoked)
			return err
		},
	}
}

func newRecordOf(user string) token.Record {
	r := newRecord()
	r.Owner = user
	return r
}
