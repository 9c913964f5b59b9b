// Package wire is what pamhelper and tokend say to each other over the auth
// socket: saslauthd's protocol, one request and one reply per connection.
//
// Every field is a 16-bit big-endian length and that many bytes. A request is
// the four fields login, password, service and realm; a reply is one field that
// begins with OK or NO.
//
// What pamhelper uses of this package (Request.encode, Ask and what they call)
// runs before and without Go's runtime, see pamhelper's package comment: it
// allocates nothing, and uses no goroutine, no panic and no variable that has
// to be initialised.
package wire

import (
	"errors"
	"fmt"
	"io"
)

// Limits that both sides hold to.
const (
	MaxField   = 1024               // bytes in one field of a request
	MaxRequest = 4 * (2 + MaxField) // bytes of a whole request
	MaxReply   = 256                // bytes in the field of a reply
)

// Busy is the reason of a refusal that says nothing of the token: the daemon
// has too much to do, and Ask asks again.
const Busy = "busy"

// ErrTooLong is a request with a field of more than MaxField bytes.
var ErrTooLong = errors.New("a field is too long")

// Request is one question: may this login come in with this secret? The secret
// is as it was presented and may be anything; Request prints without it.
type Request struct {
	Login, Secret, Service, Realm []byte
}

// String names the request without its secret.
func (r Request) String() string { return fmt.Sprintf("request of %.80q", r.Login) }

// Format prints String whatever the verb.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// MarshalText is what JSON gets, and a log in JSON: String.
func (r Request) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// encode writes the request into buf and returns how many bytes it takes, or 0
// when a field is longer than MaxField.
func (r *Request) encode(buf *[MaxRequest]byte) int {
	n := 0
	for _, field := range [...][]byte{r.Login, r.Secret, r.Service, r.Realm} {
		if len(field) > MaxField {
			return 0
		}
		buf[n], buf[n+1] = byte(len(field)>>8), byte(len(field))
		n += 2 + copy(buf[n+2:], field)
	}
	return n
}

// WriteTo sends the request in one write. A field over MaxField is ErrTooLong.
func (r *Request) WriteTo(w io.Writer) (int64, error) {
	var buf [MaxRequest]byte
	n := r.encode(&buf)
	if n == 0 {
		return 0, ErrTooLong
	}
	written, err := w.Write(buf[:n])
	return int64(written), err
}

// ReadRequest reads one request and no byte more. A field that says it is
// longer than MaxField is ErrTooLong and is not read; an end before the whole
// request is io.ErrUnexpectedEOF.
func ReadRequest(r io.Reader) (Request, error) {
	var fields [4][]byte
	for i := range fields {
		field, err := readField(r, MaxField)
		if err != nil {
			return Request{}, err
		}
		fields[i] = field
	}
	return Request{Login: fields[0], Secret: fields[1], Service: fields[2], Realm: fields[3]}, nil
}

// ReadReply reads one reply: whether it is a yes, and the text behind the OK or
// NO. Anything else is an error.
func ReadReply(r io.Reader) (ok bool, text string, err error) {
	field, err := readField(r, MaxReply)
	if err != nil {
		return false, "", err
	}
	reply := Reply{size: len(field)}
	copy(reply.text[:], field)
	if !reply.valid() {
		return false, "", Garbled
	}
	return reply.OK(), string(reply.Reason()), nil
}

func readField(r io.Reader, limit int) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, cutShort(err)
	}
	n := int(size[0])<<8 | int(size[1])
	if n > limit {
		return nil, ErrTooLong
	}
	field := make([]byte, n)
	if _, err := io.ReadFull(r, field); err != nil {
		return nil, cutShort(err)
	}
	return field, nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// EncodeReply returns the bytes of a reply: "OK", or "NO " and the reason.
func EncodeReply(ok bool, reason string) []byte {
	text := "OK"
	if !ok {
		text = "NO " + reason
	}
	text = text[:min(len(text), MaxReply)]
	return append([]byte{byte(len(text) >> 8), byte(len(text))}, text...)
}

// Reply is what the daemon answered. The zero Reply is no yes.
type Reply struct {
	text [MaxReply]byte
	size int
}

// OK reports whether the reply is a yes.
func (r *Reply) OK() bool { return r.begins('O', 'K') }

// Reason returns what stands behind the NO and a space: a code such as
// "expired", for a log and never for the one who was refused.
func (r *Reply) Reason() []byte {
	if r.size < 3 {
		return nil
	}
	return r.text[3:r.size]
}

func (r *Reply) valid() bool { return r.begins('O', 'K') || r.begins('N', 'O') }

// begins reports whether the text is the word of a and b alone or followed by a
// space: "OKAY" is no yes.
func (r *Reply) begins(a, b byte) bool {
	return r.size >= 2 && r.text[0] == a && r.text[1] == b && (r.size == 2 || r.text[2] == ' ')
}
