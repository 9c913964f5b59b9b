package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tokend/tokend/store"
)

// access is what can be done with the file.
type access int

const (
	readWrite     access = iota
	readOnly             // nothing can be written, and the -wal holds changes to be read
	readOnlyAlone        // the same without the -shm, which cannot be made
	readOnlyAll          // nothing can be written, and everything is in the file itself
)

// readerName and writerName are the names by which SQLite opens the file. A
// reader waits for a lock less long than a look-up may take, and a writer less
// long than a change may, so that the error tells of the lock and not of time.
// A reader of a writable file opens it for writing, because it may be the one
// who has to clear up what a killed daemon left; query_only keeps it from more.
func readerName(path string, mode access) string {
	query := url.Values{"mode": {"rw"}, "_pragma": {"busy_timeout(800)", "query_only(1)", "temp_store(memory)"}}
	switch mode {
	case readOnly:
		query.Set("mode", "ro")
		query.Set("readonly_shm", "1") // there may be no room to write even that
	case readOnlyAlone:
		query.Set("mode", "ro")
		query.Set("vfs", "unix-none") // to be alone with the file is to lock it, which takes rights to write
		query.Add("_pragma", "locking_mode(EXCLUSIVE)")
	case readOnlyAll:
		query.Set("mode", "ro")
		query.Set("immutable", "1")
	}
	return fileName(path, query)
}

func writerName(path string, mode access) string {
	if mode != readWrite {
		return readerName(path, mode)
	}
	return fileName(path, url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(4000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "temp_store(memory)",
	}})
}

func fileName(path string, query url.Values) string {
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return name.String()
}

// resolved is where the links of a path lead; the file itself need not be there.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(folder, filepath.Base(path))
	}
	return path
}

// checkMount refuses a file that is mounted by itself, as into a container: its -wal
// would stay behind in the folder, with the last changes in it.
func (s *Store) checkMount() error {
	file, told := mountOf(s.path)
	folder, toldToo := mountOf(filepath.Dir(s.path))
	if told && toldToo && file != folder {
		return fmt.Errorf("%s is mounted without its folder, in which SQLite keeps the last changes beside it (-wal): mount the folder", s.path)
	}
	return nil
}

// mountOf returns the number of the mount that the path is on. Old kernels don't tell.
func mountOf(path string) (number uint64, told bool) {
	var is unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &is)
	return is.Mnt_id, err == nil && is.Mask&unix.STATX_MNT_ID != 0
}

// checkCompanions is checkOwners, and closes those files to whom the database is closed:
// it was open to others once.
func (s *Store) checkCompanions() error {
	if err := s.checkOwners(); err != nil {
		return err
	}
	database, err := s.file.Stat()
	if err != nil {
		return err
	}
	for _, path := range s.companions() {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm() & database.Mode().Perm(); mode != info.Mode().Perm() {
			if err := os.Chmod(path, mode); err != nil && !errors.Is(err, syscall.EROFS) {
				return err
			}
		}
	}
	return nil
}

// companions are the places of SQLite's own files.
func (s *Store) companions() []string {
	return []string{s.path + "-wal", s.path + "-shm", s.path + "-journal"}
}

// checkOwners refuses what stands at the places of SQLite's own files and is
// neither the database owner's nor the daemon's user's: SQLite would believe it.
func (s *Store) checkOwners() error {
	database, err := s.file.Stat()
	if err != nil {
		return err
	}
	for _, path := range s.companions() {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is in the way and is no regular file: move it away", path)
		}
		if owner := ownerOf(info); owner != ownerOf(database) && owner != uint32(os.Geteuid()) {
			return fmt.Errorf("%s is of uid %d, who is not the database's owner: if tokend made it as another user, give it to the owner (chown), "+
				"because it may hold the last changes; if not, move it away", path, owner)
		}
	}
	return nil
}

func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

// makeDirectory makes what is missing of the path, and makes sure that a power
// loss does not take it away again.
func makeDirectory(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s is no directory: name another path", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openFile opens the file, makes it if it is missing, before SQLite would make
// it readable to all, and finds out what can be done with it. Its lock lets in
// one daemon at a time. It must stay open for as long as SQLite has it open:
// closing it would take SQLite's own locks away.
func openFile(path string, log *slog.Logger) (*os.File, access, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, 0, errors.New("it is a directory: name a file in it")
	case err == nil && !info.Mode().IsRegular():
		return nil, 0, errors.New("it is no regular file: name another")
	case err == nil && info.Mode().Perm()&0o077 != 0:
		log.Warn("the database is open to other users; chmod 600 would close it, and its -wal and -shm", "path", path, "mode", info.Mode().Perm().String())
	case errors.Is(err, fs.ErrNotExist) && isLink(path):
		return nil, 0, errors.New("it is a link to nothing: mend it, or name the file itself")
	}
	mode := readWrite
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EROFS) {
		log.Warn("the database cannot be opened for changes", "path", path, "err", err)
		if mode, err = readOnlyAccess(path); err == nil {
			file, err = os.Open(path)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	if err := lock(file); err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	if mode == readWrite {
		err = errors.Join(file.Sync(), syncDirectory(filepath.Dir(path)))
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, mode, nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == fs.ModeSymlink
}

// notOurs says what to do where another user's rights are needed.
func notOurs(err error) error {
	if folder, ok := errors.AsType[*fs.PathError](err); ok && folder.Op == "mkdir" {
		return fmt.Errorf("make its folder: %w; make it (mode 700) for the user with uid %d, or have systemd do it", err, os.Geteuid())
	}
	return fmt.Errorf("the user with uid %d may not: run tokend as the owner, or give the database a folder "+
		"of its own that is that user's (mode 700), with all that is in it: %w", os.Geteuid(), err)
}

// readOnlyAccess finds out how to read a database that cannot be written.
func readOnlyAccess(path string) (access, error) {
	if _, err := os.Stat(path); err != nil {
		return 0, fmt.Errorf("it is missing and cannot be made on a read-only file system: %w", err)
	}
	if wal, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) || err == nil && wal.Size() <= walHeader {
		return readOnlyAll, nil
	}
	if _, err := os.Stat(path + "-shm"); errors.Is(err, fs.ErrNotExist) {
		return readOnlyAlone, nil
	}
	return readOnly, nil
}

// lock keeps other daemons out, whatever name they know the file by. The kernel
// frees it when the process ends, however it ends.
func lock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w%s: stop that one first, or give this one a database of its own", store.ErrLocked, holder(file))
	}
	if err != nil {
		return fmt.Errorf("lock it (the database must lie on a local disk): %w", err)
	}
	return nil
}

// lockOut keeps other programs from a file that is read without SQLite's locks: what
// they change, its readers would not notice. It locks the bytes on which SQLite has
// its own locks, as one who writes to the file alone.
func lockOut(file *os.File) error {
	const first, all = 0x40000000, 512
	alone := unix.Flock_t{Type: unix.F_WRLCK, Start: first, Len: all}
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &alone) // which no other descriptor's end takes away
}

// holder names the process that has the lock, as far as the kernel tells.
func holder(file *os.File) string {
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	locks, err := os.ReadFile("/proc/locks") // 1: FLOCK ADVISORY WRITE 4711 fe:01:131 0 EOF
	if err != nil {
		return ""
	}
	inode := fmt.Sprintf(":%d", info.Sys().(*syscall.Stat_t).Ino)
	for line := range strings.Lines(string(locks)) {
		if f := strings.Fields(line); len(f) == 8 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			return fmt.Sprintf(" (pid %s)", f[4])
		}
	}
	return ""
}
