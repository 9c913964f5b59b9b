package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tokend/pamhelper/wire"
)

// Written out by hand from saslauthd's protocol: a 16-bit big-endian length
// before each field.
func TestFrozenBytes(t *testing.T) {
	request := wire.Request{Login: []byte("alice"), Secret: []byte("s3cret"), Service: []byte("irods")}
	const want = "0005" + "616c696365" + "0006" + "733363726574" + "0005" + "69726f6473" + "0000"
	if got := hex.EncodeToString(written(t, request)); got != want {
		t.Errorf("a request:\ngot  %s\nwant %s", got, want)
	}
	request = wire.Request{Login: bytes.Repeat([]byte{'a'}, 258), Realm: []byte{0}}
	long := "0102" + strings.Repeat("61", 258) + "0000" + "0000" + "0001" + "00"
	if got := hex.EncodeToString(written(t, request)); got != long {
		t.Errorf("a request with a long field:\ngot  %s\nwant %s", got, long)
	}
	for _, row := range []struct {
		ok     bool
		reason string
		want   string
	}{
		{true, "", "0002" + "4f4b"},
		{true, "ok", "0002" + "4f4b"},
		{false, "expired", "000a" + "4e4f20" + "65787069726564"},
		{false, "", "0003" + "4e4f20"},
		{false, strings.Repeat("x", 1000), "0100" + "4e4f20" + strings.Repeat("78", 253)},
	} {
		if got := hex.EncodeToString(wire.EncodeReply(row.ok, row.reason)); got != row.want {
			t.Errorf("a reply of %t, %.20q:\ngot  %s\nwant %s", row.ok, row.reason, got, row.want)
		}
	}
}

func TestARequestIsReadAsItWasWritten(t *testing.T) {
	field := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 20), rapid.SliceOfN(rapid.Byte(), wire.MaxField-2, wire.MaxField))
	rest := rapid.SliceOf(rapid.Byte())
	rapid.Check(t, func(t *rapid.T) {
		want := wire.Request{Login: field.Draw(t, "login"), Secret: field.Draw(t, "secret"), Service: field.Draw(t, "service"), Realm: field.Draw(t, "realm")}
		behind := rest.Draw(t, "behind")
		stream := bytes.NewReader(append(written(t, want), behind...))
		got, err := wire.ReadRequest(iotest.OneByteReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fields(want), fields(got)); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
		if stream.Len() != len(behind) {
			t.Errorf("%d bytes are left of the %d behind the request", stream.Len(), len(behind))
		}
	})
}

func TestAReplyIsReadAsItWasWritten(t *testing.T) {
	reasons := rapid.OneOf(rapid.StringN(0, -1, 20), rapid.StringN(0, -1, wire.MaxReply-3))
	rapid.Check(t, func(t *rapid.T) {
		want, reason := rapid.Bool().Draw(t, "yes"), reasons.Draw(t, "reason")
		stream := bytes.NewReader(append(wire.EncodeReply(want, reason), "behind"...))
		ok, text, err := wire.ReadReply(iotest.OneByteReader(stream))
		if want {
			reason = "" // a yes needs none
		}
		if ok != want || text != reason || err != nil {
			t.Errorf("got %t, %q, %v; want %t, %q", ok, text, err, want, reason)
		}
		if stream.Len() != len("behind") {
			t.Errorf("%d bytes are left behind the reply", stream.Len())
		}
	})
}

func TestAFieldHasItsLimit(t *testing.T) {
	for n, want := range map[int]error{0: nil, 1023: nil, 1024: nil, 1025: wire.ErrTooLong, 65535: wire.ErrTooLong, 65536: wire.ErrTooLong, 1 << 20: wire.ErrTooLong} {
		field := make([]byte, n)
		for name, request := range map[string]wire.Request{"login": {Login: field}, "secret": {Secret: field}, "service": {Service: field}, "realm": {Realm: field}} {
			var out bytes.Buffer
			size, err := request.WriteTo(&out)
			if !errors.Is(err, want) || int(size) != out.Len() || (want == nil) != (size == int64(8+n)) {
				t.Errorf("a %s of %d: wrote %d, %v; want %v", name, n, size, err, want)
			}
		}
	}
	all := bytes.Repeat([]byte{'a'}, wire.MaxField)
	if got := len(written(t, wire.Request{Login: all, Secret: all, Service: all, Realm: all})); got != wire.MaxRequest {
		t.Errorf("the longest request has %d bytes, not %d", got, wire.MaxRequest)
	}
}

func TestALengthOverTheLimitIsRefusedAndNotFollowed(t *testing.T) {
	for lie, refused := range map[string]bool{"\x04\x00": false, "\x04\x01": true, "\x05\x00": true, "\xff\xff": true} {
		for before := range 4 {
			input := bytes.NewReader([]byte(strings.Repeat("\x00\x01a", before) + lie + strings.Repeat("\x00", 1<<16)))
			size := input.Len()
			_, err := wire.ReadRequest(input)
			if errors.Is(err, wire.ErrTooLong) != refused {
				t.Errorf("%x in field %d: got %v", lie, before, err)
			}
			if read := size - input.Len(); refused && read != 3*before+2 {
				t.Errorf("%x in field %d: %d bytes were read", lie, before, read)
			}
		}
	}
}

func TestARequestThatEndsTooEarlyIsRefused(t *testing.T) {
	whole := written(t, wire.Request{Login: []byte("alice"), Secret: []byte("s3cret"), Service: []byte("irods"), Realm: []byte("r")})
	for n := range whole {
		if got, err := wire.ReadRequest(bytes.NewReader(whole[:n])); !errors.Is(err, io.ErrUnexpectedEOF) || got.Login != nil {
			t.Errorf("after %d bytes: got %v, %v", n, got, err)
		}
	}
	broken := errors.New("broken")
	for n := range whole {
		stream := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(broken))
		if _, err := wire.ReadRequest(stream); !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: got %v", n, err)
		}
	}
}

func TestAReplyThatEndsTooEarlyIsRefused(t *testing.T) {
	whole := wire.EncodeReply(true, "")
	for n := range whole {
		if ok, text, err := wire.ReadReply(bytes.NewReader(whole[:n])); ok || text != "" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d bytes: got %t, %q, %v", n, ok, text, err)
		}
	}
}

func TestAReplyIsAYesANoOrNothing(t *testing.T) {
	for _, row := range []struct {
		bytes string
		ok    bool
		text  string
		err   error
	}{
		{"\x00\x02OK", true, "", nil},
		{"\x00\x03OK ", true, "", nil},
		{"\x00\x0aOK welcome", true, "welcome", nil},
		{"\x00\x05OK NO", true, "NO", nil},
		{"\x00\x02NO", false, "", nil},
		{"\x00\x03NO ", false, "", nil},
		{"\x00\x0aNO expired", false, "expired", nil},
		{"\x00\x05NO OK", false, "OK", nil},
		{"\x01\x00NO " + strings.Repeat("x", 253), false, strings.Repeat("x", 253), nil},

		{"\x00\x00", false, "", wire.Garbled},
		{"\x00\x01O", false, "", wire.Garbled},
		{"\x00\x02ok", false, "", wire.Garbled},
		{"\x00\x02Ok", false, "", wire.Garbled},
		{"\x00\x02no", false, "", wire.Garbled},
		{"\x00\x03 OK", false, "", wire.Garbled},
		{"\x00\x03OK\x00", false, "", wire.Garbled},
		{"\x00\x03OK\n", false, "", wire.Garbled},
		{"\x00\x04OKAY", false, "", wire.Garbled},
		{"\x00\x04NONE", false, "", wire.Garbled},
		{"\x00\x03YES", false, "", wire.Garbled},
		{"\x01\x01OK " + strings.Repeat("x", 254), false, "", wire.ErrTooLong},
		{"\xff\xffOK", false, "", wire.ErrTooLong},
		{"OK", false, "", wire.ErrTooLong},
		{"", false, "", io.ErrUnexpectedEOF},
		{"\x00", false, "", io.ErrUnexpectedEOF},
		{"\x00\x02", false, "", io.ErrUnexpectedEOF},
		{"\x00\x02O", false, "", io.ErrUnexpectedEOF},
		{"\x00\x0aOK", false, "", io.ErrUnexpectedEOF},
	} {
		ok, text, err := wire.ReadReply(strings.NewReader(row.bytes))
		if ok != row.ok || text != row.text || !errors.Is(err, row.err) {
			t.Errorf("%.20q: got %t, %q, %v; want %t, %q, %v", row.bytes, ok, text, err, row.ok, row.text, row.err)
		}
	}
}

func TestTheZeroReplyIsNoYes(t *testing.T) {
	var reply wire.Reply
	if reply.OK() || len(reply.Reason()) != 0 {
		t.Errorf("got %t, %q", reply.OK(), reply.Reason())
	}
}

// A request in two pieces could be cut between them.
func TestARequestIsSentInOneWrite(t *testing.T) {
	var writes int
	request := wire.Request{Login: []byte("alice"), Secret: []byte("s3cret")}
	size, err := request.WriteTo(writerFunc(func(p []byte) (int, error) {
		writes++
		return len(p) - 1, io.ErrShortWrite
	}))
	if writes != 1 || size != 8+5+6-1 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%d writes, %d bytes, %v", writes, size, err)
	}
}

func TestEachFailureSaysSomethingElse(t *testing.T) {
	said := map[string]wire.Failure{}
	for _, failure := range []wire.Failure{wire.Answered, wire.TooLong, wire.NoSocket, wire.Forbidden, wire.Closed, wire.TimedOut, wire.Garbled, wire.Broken} {
		if other, ok := said[failure.Error()]; ok || failure.Error() == "" {
			t.Errorf("%d says %q, as %d does", failure, failure.Error(), other)
		}
		said[failure.Error()] = failure
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }

// fields are the request's for cmp, which would print no difference of two
// requests.
func fields(r wire.Request) []string {
	return []string{string(r.Login), string(r.Secret), string(r.Service), string(r.Realm)}
}

func written(t rapid.TB, request wire.Request) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := request.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
