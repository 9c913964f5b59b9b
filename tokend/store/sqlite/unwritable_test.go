package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tokend/tokend/store"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func TestLookUpsGoOnWhenTheDiskIsFull(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := ownDisk(t, 0, "size=2m")
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
			dir := ownDisk(t, 0, "size=2m")
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
	dir := ownDisk(t, 0, "size=2m,nr_inodes=8")
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
			var log bytes.Buffer
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: spelled(t, path, c.linked), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			check(err)
			if !strings.Contains(log.String(), `msg="the database cannot be opened for changes" path=`) || !strings.Contains(log.String(), "the store cannot be written") {
				t.Errorf("the log does not say why:\n%s", &log)
			}
			wantAllKept(t, s, kept, c.unclean)
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), path, "make it, its folder", "start tokend again", "look-ups go on")
			check(os.Chmod(filepath.Dir(path), 0o700))
			var tables int // with SQLite's locks, which the store has none of
			err = shell(t, path).QueryRowContext(t.Context(), `SELECT count(*) FROM sqlite_schema`).Scan(&tables)
			wantSentence(t, err, "locked")
			wantAllKept(t, s, kept, c.unclean)
			closeStore(t, s)
			wantAllKept(t, open(t, path), kept, c.unclean)
		})
	}
}

// ownDisk mounts a file system of its own until the test ends.
func ownDisk(t *testing.T, flags uintptr, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	check(syscall.Mount("tmpfs", dir, "tmpfs", flags, options))
	t.Cleanup(func() { check(syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
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

func TestReadOnlyFileSystemIsOpenedForLookUps(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	for _, c := range crashes {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			dir := ownDisk(t, 0, "")
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
			var log bytes.Buffer
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: spelled(t, path, c.linked), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			check(err)
			defer closeStore(t, s)
			if !strings.Contains(log.String(), `msg="the database cannot be opened for changes" path=`) || !strings.Contains(log.String(), "read-only file system") {
				t.Errorf("the log does not say why:\n%s", &log)
			}
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
	dir := ownDisk(t, syscall.MS_RDONLY, "")
	path := filepath.Join(dir, "tokend.db")
	wantSentence(t, openFails(t, path), path, "it is missing and cannot be made on a read-only file system")
	further := filepath.Join(dir, "further")
	wantSentence(t, openFails(t, filepath.Join(further, "tokend.db")), further, "read-only file system")
}

// TestWALOfNothingButItsHeaderIsEmpty: so it is left if the first change fails.
func TestWALOfNothingButItsHeaderIsEmpty(t *testing.T) {
	if !withOwnMounts(t) {
		return
	}
	dir := ownDisk(t, 0, "")
	path := filepath.Join(dir, "tokend.db")
	s := open(t, path)
	kept := mint(t, s)
	closeStore(t, s)
	leaveWAL(t, path)
	check(os.Truncate(path+"-wal", 32))
	check(syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	wantRecord(t, open(t, path), kept)
}

// TestProgramThatHasTheFileOpenIsTold of where the store reads without locks.
func TestProgramThatHasTheFileOpenIsTold(t *testing.T) {
	if !withoutPrivileges(t) {
		return
	}
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	closeStore(t, s)
	reader, err := os.Open(path)
	check(err)
	defer reader.Close()
	const shared = 0x40000002 // as SQLite does while it reads
	check(unix.FcntlFlock(reader.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: shared, Len: 510}))
	check(os.Chmod(filepath.Dir(path), 0o500))
	defer func() { check(os.Chmod(filepath.Dir(path), 0o700)) }()
	var log bytes.Buffer
	s, err = sqlite.Open(t.Context(), sqlite.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	check(err)
	defer closeStore(t, s)
	wantRecord(t, s, kept)
	if !strings.Contains(log.String(), `level=WARN msg="another program has the database open: what it changes is not noticed"`) {
		t.Errorf("the log says:\n%s", &log)
	}
}
