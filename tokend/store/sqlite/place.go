package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"tokend/tokend/store"
)

// remember notes which files are open, and opens the -shm, which must stay open for as
// long as SQLite has it: closing it would take SQLite's own locks away.
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
	if mode != readWrite {
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

// cut reports whether the -wal lacks the last frame that the -shm tells of. What is
// written behind the gap, the next start would not find. SQLite has the -shm tell of
// none before it makes the -wal short itself. See https://sqlite.org/walformat.html.
func (s *Store) cut() bool {
	const fileHeader, frameHeader = 32, 24
	before := s.walIndex()
	page, frames := int64(binary.NativeEndian.Uint16(before[14:])), int64(binary.NativeEndian.Uint32(before[16:]))
	if frames == 0 {
		return false
	}
	if page == 1 {
		page = 1 << 16
	}
	frame := make([]byte, frameHeader+page)
	_, err := s.wal.ReadAt(frame, fileHeader+(frames-1)*int64(len(frame)))
	gone := errors.Is(err, io.EOF) || err == nil && !bytes.Equal(frame[8:16], before[32:40]) // the salt, which a gap has not
	return gone && before == s.walIndex()
}

// walIndex is the header of the -shm; without one, it tells of no frames.
func (s *Store) walIndex() (header [48]byte) {
	if s.shm != nil {
		_, _ = s.shm.ReadAt(header[:], 0)
	}
	return header
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
	path := s.path + "-shm"
	file := s.opened[path]
	info, err := os.Stat(path)
	return file != nil && (err != nil || !os.SameFile(info, file))
}
