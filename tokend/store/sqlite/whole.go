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

// checkWhole refuses a -wal of which SQLite would read only the beginning, without a word:
// damaged, or cut short, it lacks changes that were acknowledged. The frames of each are followed by
// one that ends it, and what is wrong before such a one, or before the last that the -shm tells of,
// was there once. See https://sqlite.org/walformat.html.
func (s *Store) checkWhole() error {
	file, err := os.Open(s.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	read, told, err := readWAL(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		return err
	}
	if index, err := os.ReadFile(s.path + "-shm"); err == nil && len(index) >= 48 && [8]byte(index[32:40]) == told.salt {
		told.number = max(told.number, binary.NativeEndian.Uint32(index[16:]))
	}
	if read < told.number {
		return fmt.Errorf("%s-wal is damaged, or was cut short: the last changes in it cannot be read (frames %d to %d); restore all files of a backup, or, to do without these changes, start the daemon over this database and stop it again", s.path, read+1, told.number)
	}
	return nil
}

// readWAL returns up to which frame SQLite reads, and the last frame that ends a change.
func readWAL(r io.Reader) (read uint32, last frame, err error) {
	var head [walHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, last, ignoreEnd(err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[3]&1 != 0 {
		order = binary.BigEndian
	}
	sum := checksum{order: order}
	sum.add(head[:24])
	whole := sum.is(head[24:])
	last = frame{page: binary.BigEndian.Uint32(head[8:]), salt: [8]byte(head[16:24])}
	if last.page < 512 || last.page > 1<<16 {
		return 0, last, nil // SQLite makes nothing of it either
	}
	for there, number := make([]byte, frameHeader+last.page), uint32(1); ; number++ {
		if _, err := io.ReadFull(r, there); err != nil {
			return read, last, ignoreEnd(err)
		}
		if [8]byte(there[8:16]) != last.salt { // of what was there before; nothing of now can follow
			whole = false
			continue
		}
		sum.add(there[:8])
		sum.add(there[frameHeader:])
		whole = whole && sum.is(there[16:])
		if binary.BigEndian.Uint32(there[4:]) != 0 { // the size of the database after the change
			last.number = number
			if whole {
				read = number
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
