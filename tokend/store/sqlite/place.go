package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"tokend/tokend/store"
)

// remember notes which files are open.
func (s *Store) remember(mode access) error {
	paths := []string{s.named, s.path}
	if mode == readWrite {
		paths = append(paths, s.path+"-wal", s.path+"-shm")
	}
	opened := map[string]fs.FileInfo{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		opened[path] = info
	}
	s.opened = opened
	if mode != readWrite || s.shm != nil {
		return nil
	}
	shm, err := os.Open(s.path + "-shm")
	s.shm = shm
	return err
}

// inPlace refuses to go on with a file that was moved or replaced: what is
// written to it now, the next daemon would not find.
func (s *Store) inPlace() error {
	for path, file := range s.opened {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: it can no more be seen whether %s is in its place; give its folder back to the user with uid %d (chown, chmod 700): %w",
				store.ErrUnwritable, path, os.Geteuid(), err)
		}
		if err != nil || !os.SameFile(info, file) {
			return fmt.Errorf("%w: %s was moved or replaced while tokend had it open; put it back, "+
				"or start tokend again to work with what is there now", store.ErrUnwritable, path)
		}
	}
	if s.cut() {
		return fmt.Errorf("%w: %s-wal was cut short while tokend had it open; the changes in it are lost, which of a new database are all, and look-ups may fail; "+
			"start tokend again to work with what is left, or restore a backup, and revoke again what the log says was revoked", store.ErrUnwritable, s.path)
	}
	return nil
}

// cut reports whether the -wal is shorter than the -shm says. What is written behind
// the gap, the next start would not find. SQLite itself says that it is short before
// it makes it so.
func (s *Store) cut() bool {
	before := s.lengthOfWAL()
	info, err := s.wal.Stat()
	return err == nil && info.Size() < before && before == s.lengthOfWAL()
}

// lengthOfWAL is how long the -wal is at least, by the -shm's header, see
// https://sqlite.org/walformat.html; 0 where that is not known.
func (s *Store) lengthOfWAL() int64 {
	const fileHeader, frameHeader = 32, 24
	var header [20]byte
	if s.shm == nil {
		return 0
	}
	if _, err := s.shm.ReadAt(header[:], 0); err != nil {
		return 0
	}
	page, frames := int64(binary.NativeEndian.Uint16(header[14:])), int64(binary.NativeEndian.Uint32(header[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if frames == 0 {
		return 0
	}
	return fileHeader + frames*(frameHeader+page)
}

func isAt(path string, file fs.FileInfo) bool {
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, file)
}

// letGo folds the -wal into the file that was moved or replaced, where it belongs:
// left behind, it would be applied to what has taken the file's place.
// The anchor does it, because the writer's connection may be gone.
func (s *Store) letGo() {
	if s.strayed() || s.cut() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), otherTimeout)
	defer cancel()
	_, _ = s.anchor.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`) // what failed before says why
}

// strayed reports whether the -shm is not in its place: then another program may
// have made one, and what ours says of the -wal may be long past.
func (s *Store) strayed() bool {
	for path, file := range s.opened {
		if strings.HasSuffix(path, "-shm") && !isAt(path, file) {
			return true
		}
	}
	return false
}
