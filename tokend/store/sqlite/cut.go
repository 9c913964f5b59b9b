package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// frame is a page in the -wal: its number, from 1, the size of the page, and the salt
// by which it belongs to what is in the -wal now.
type frame struct {
	number, page uint32
	salt         [8]byte
}

// walHeader is what stands before the first frame.
const walHeader = 32

// cut reports whether the -wal lacks the last frame that the -shm tells of, or the one
// that was the last before: behind it a change may have gone on when the -wal was cut.
// What is written behind a gap, the next start would not find. SQLite has the -shm tell
// of no frame before it makes the -wal short itself. See https://sqlite.org/walformat.html.
func (s *Store) cut() bool {
	before := s.walIndex()
	last := frame{
		number: binary.NativeEndian.Uint32(before[16:]),
		page:   uint32(binary.NativeEndian.Uint16(before[14:])),
		salt:   [8]byte(before[32:40]),
	}
	if last.page == 1 {
		last.page = 1 << 16
	}
	if last.number == 0 {
		return false
	}
	seen := s.seen.Load()
	gone := s.lacks(last) || seen != nil && seen.salt == last.salt && seen.number < last.number && s.lacks(*seen)
	if before != s.walIndex() { // another program has gone on
		return false
	}
	if !gone {
		s.seen.Store(&last)
	}
	return gone
}

func (s *Store) lacks(f frame) bool {
	const frameHeader = 24
	there := make([]byte, frameHeader+f.page)
	_, err := s.wal.ReadAt(there, walHeader+int64(f.number-1)*int64(len(there)))
	return errors.Is(err, io.EOF) || err == nil && !bytes.Equal(there[8:16], f.salt[:]) // which a gap has not
}

// walIndex is the header of the -shm; without one, it tells of no frames.
func (s *Store) walIndex() (header [48]byte) {
	if s.shm != nil {
		_, _ = s.shm.ReadAt(header[:], 0)
	}
	return header
}
