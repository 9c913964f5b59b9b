package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"tokend/pamhelper/wire"
)

// FuzzReadRequest: no bytes make ReadRequest panic; what it accepts, written
// again, gives the same bytes.
func FuzzReadRequest(f *testing.F) {
	for _, seed := range []string{"", "\x00\x05alice\x00\x06s3cret\x00\x05irods\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00more", "\x04\x01", "\xff\xff", "\x00\x02a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		stream := bytes.NewReader(data)
		request, err := wire.ReadRequest(stream)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, wire.ErrTooLong) {
				t.Errorf("%q: %v", data, err)
			}
			return
		}
		read := data[:len(data)-stream.Len()]
		if again := written(t, request); !bytes.Equal(again, read) {
			t.Errorf("read %x, written again %x", read, again)
		}
	})
}

// FuzzReadReply: no bytes make ReadReply panic, and only "OK", alone or before
// a space, is a yes.
func FuzzReadReply(f *testing.F) {
	for _, seed := range []string{"", "\x00\x02OK", "\x00\x0aNO expired", "\x00\x04OKAY", "\x00\x03OK ", "\x01\x01", "\x00\x02ok"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want := false
		if len(data) >= 2 {
			if n := int(data[0])<<8 + int(data[1]); n <= wire.MaxReply && 2+n <= len(data) {
				text := string(data[2 : 2+n])
				want = text == "OK" || strings.HasPrefix(text, "OK ")
			}
		}
		ok, text, err := wire.ReadReply(bytes.NewReader(data))
		if ok != want || (err != nil && (ok || text != "")) {
			t.Errorf("%q: got %t, %q, %v", data, ok, text, err)
		}
	})
}
