package verify

import (
	"encoding/binary"
	"errors"
	"time"

	"tokend/tokend/token"
)

// sighting is a record and when the store was asked for it. Only the store's
// answer moves that time.
type sighting struct {
	Record token.Record
	Read   time.Time
}

// A cached sighting is, in this order: the encoding's version, flags (1 byte each), when it
// was read (nanoseconds since 1970), created, expires, revoked (microseconds; 8 bytes each),
// the digest, and ID, owner, hint and label, each behind its length (2 bytes). It is read at
// every login: JSON took 6 % of the daemon's time, and three times the room.
const encoding = 3 // of what begins with { there was one before

// Flags. Of a time that is not there, the bytes are 0.
const (
	hasCreated = 1 << iota
	hasExpires
	hasRevoked
	ownerDisabled
	ofKnox4
	ofKnox5
	opensAPI
	noFlag
)

// sightingSize is what stands before the texts.
const sightingSize = 2 + 4*8 + len(token.Digest{})

var (
	errEncoding = errors.New("it was written by another version of tokend")
	errGarbled  = errors.New("it is no record")
)

// encode fails for a record whose texts are longer than any that a store keeps.
func (s sighting) encode() ([]byte, error) {
	texts := [...]string{s.Record.ID, s.Record.Owner, s.Record.Hint, s.Record.Label}
	size := sightingSize
	for _, text := range texts {
		if len(text) > 1<<16-1 {
			return nil, errors.New("a text in the record is too long for the cache")
		}
		size += 2 + len(text)
	}
	var flags byte
	if s.Record.OwnerDisabled {
		flags |= ownerDisabled
	}
	if s.Record.API {
		flags |= opensAPI
	}
	switch s.Record.Scheme {
	case token.Knox4:
		flags |= ofKnox4
	case token.Knox5:
		flags |= ofKnox5
	}
	b := binary.BigEndian.AppendUint64(append(make([]byte, 0, size), encoding, 0), uint64(s.Read.UnixNano())) //nolint:gosec // decode undoes it
	for i, t := range [...]time.Time{s.Record.Created, s.Record.Expires, s.Record.Revoked} {
		var micros int64
		if !t.IsZero() {
			flags |= hasCreated << i
			micros = t.UnixMicro()
		}
		b = binary.BigEndian.AppendUint64(b, uint64(micros)) //nolint:gosec // decode undoes it
	}
	b[1] = flags
	b = append(b, s.Record.Digest[:]...)
	for _, text := range texts {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...) //nolint:gosec // see above
	}
	return b, nil
}

// decode reads what encode has written, and nothing else.
func decode(b []byte) (s sighting, err error) {
	switch {
	case len(b) > 0 && b[0] != encoding:
		return sighting{}, errEncoding
	case len(b) < sightingSize || b[1] >= noFlag:
		return sighting{}, errGarbled
	}
	flags := b[1]
	number := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[2+8*i:])) } //nolint:gosec // encode's inverse
	s.Read = time.Unix(0, number(0))
	for i, t := range [...]*time.Time{&s.Record.Created, &s.Record.Expires, &s.Record.Revoked} {
		if flags&(hasCreated<<i) != 0 {
			*t = time.UnixMicro(number(1 + i)).UTC()
		} else if number(1+i) != 0 {
			return sighting{}, errGarbled
		}
	}
	s.Record.OwnerDisabled = flags&ownerDisabled != 0
	s.Record.API = flags&opensAPI != 0
	switch {
	case flags&ofKnox4 != 0:
		s.Record.Scheme = token.Knox4
	case flags&ofKnox5 != 0:
		s.Record.Scheme = token.Knox5
	}
	s.Record.Digest = token.Digest(b[sightingSize-len(s.Record.Digest) : sightingSize])
	rest := b[sightingSize:]
	for _, text := range [...]*string{&s.Record.ID, &s.Record.Owner, &s.Record.Hint, &s.Record.Label} {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return sighting{}, errGarbled
		}
		n := 2 + int(binary.BigEndian.Uint16(rest))
		*text, rest = string(rest[2:n]), rest[n:]
	}
	if len(rest) > 0 {
		return sighting{}, errGarbled
	}
	return s, nil
}
