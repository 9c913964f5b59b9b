package sqlite

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const frameHeader = 24

// checkWhole refuses a -wal of which SQLite would read only the beginning, or nothing, without a
// word: damaged, cut short or gone, it lacks changes that were acknowledged. Each of these ends with
// a frame that says so, and the -shm, where there is one, tells of the last. See
// https://sqlite.org/walformat.html.
func (s *Store) checkWhole() error {
	wal, err := scanWAL(s.path + "-wal")
	if err != nil {
		return err
	}
	index := indexed(s.path + "-shm")
	another := index.number > 0 && wal.last.number > 0 && index.salt != wal.last.salt
	switch {
	case another:
		return fmt.Errorf("%s-wal is another one than %[1]s-shm tells of: a daemon that starts over it may overwrite what the database has; put the right one back, or restore all files of a backup", s.path)
	case wal.read < index.number || !wal.sound || wal.read != wal.last.number:
		return fmt.Errorf("%s-wal is damaged, cut short or gone: changes may be missing (of %d frames, %d are read); keep a copy of %[1]s, its -wal and its -shm, because what is read changes them; then start the daemon over this database, look with tokend audit whether its last changes are there, and stop it again; if they are not, restore all files of a backup",
			s.path, max(wal.last.number, index.number), wal.read)
	}
	return nil
}

// indexed is the last frame that the -shm tells of; number 0: it tells of none. Its header is
// there twice, which are the same unless it is garbage.
func indexed(path string) frame {
	var head [96]byte
	file, err := os.Open(path)
	if err != nil {
		return frame{}
	}
	defer file.Close() //nolint:errcheck // it was only read
	if _, err := io.ReadFull(file, head[:]); err != nil || [48]byte(head[:48]) != [48]byte(head[48:]) {
		return frame{}
	}
	return frame{number: binary.NativeEndian.Uint32(head[16:]), salt: [8]byte(head[32:])}
}

// walState is what is in a -wal.
type walState struct {
	sound bool   // its header is whole, or there is nothing behind it
	read  uint32 // up to which frame SQLite reads
	last  frame  // that ends a change
}

func scanWAL(path string) (w walState, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return walState{sound: true}, nil
	}
	if err != nil {
		return w, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	r := bufio.NewReaderSize(file, 1<<20)
	var head [walHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return walState{sound: true}, ignoreEnd(err)
	}
	sum := checksum{order: binary.LittleEndian}
	if head[3]&1 != 0 {
		sum.order = binary.BigEndian
	}
	sum.add(head[:24])
	w.last = frame{page: binary.BigEndian.Uint32(head[8:]), salt: [8]byte(head[16:])}
	const magic = 0x377f0682 // and one more where the sums are of big-endian words
	size := w.last.page
	w.sound = sum.is(head[24:]) && binary.BigEndian.Uint32(head[:])&^1 == magic && size >= 512 && size <= 1<<16 && size&(size-1) == 0
	if !w.sound {
		_, err := r.Peek(1)
		w.sound = errors.Is(err, io.EOF)
		return w, nil
	}
	for there, number, whole := make([]byte, frameHeader+w.last.page), uint32(1), true; ; number++ {
		if _, err := io.ReadFull(r, there); err != nil {
			return w, ignoreEnd(err)
		}
		sum.add(there[:8])
		sum.add(there[frameHeader:])
		now := [8]byte(there[8:]) == w.last.salt // else of what was there before
		whole = whole && now && sum.is(there[16:])
		if now && binary.BigEndian.Uint32(there[4:]) != 0 { // the size of the database after a change
			w.last.number = number
			if whole {
				w.read = number
			}
		}
	}
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// checksum is the one of a -wal, of all that was added.
type checksum struct {
	order binary.ByteOrder
	sums  [2]uint32
}

func (c *checksum) add(b []byte) {
	for ; len(b) >= 8; b = b[8:] {
		c.sums[0] += c.order.Uint32(b) + c.sums[1]
		c.sums[1] += c.order.Uint32(b[4:]) + c.sums[0]
	}
}

func (c *checksum) is(b []byte) bool {
	return binary.BigEndian.Uint32(b) == c.sums[0] && binary.BigEndian.Uint32(b[4:]) == c.sums[1]
}
