package socket_test

import (
	"context"
	"encoding/binary"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// FuzzServer: whatever bytes come, the answer is a yes only if they begin with
// a well-formed request of alice with the right secret, else a no.
func FuzzServer(f *testing.F) {
	right := request("alice", "right")
	for _, seed := range []string{
		"", right, right + "more", right[:len(right)-1], request("alice", "wrong"), request("bob", "right"), request("", ""),
		"\x00\x05alice\x00\x05right\x04\x01", "\x00\x05alice\x00\x05right\x00\x00\x00\x01x", "\xff\xff", strings.Repeat("\x00", 9),
	} {
		f.Add([]byte(seed))
	}
	s := &serving{registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	connections := make(handedOver)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.server(0, alice).Serve(ctx, connections) }()
	f.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		server, client := pair(t)
		connections <- server
		go func() {
			_, _ = client.Write(data) // a server that has read enough ends it
			_ = client.CloseWrite()
		}()
		got, _ := converse(client, "")
		switch {
		case isAlice(data) && got != yes, !isAlice(data) && got != no("unknown") && got != no("malformed"):
			t.Errorf("%q: got %q", data, got)
		}
	})
}

// isAlice reads the protocol once more, in another way than package wire.
func isAlice(data []byte) bool {
	rest, ok := strings.CutPrefix(string(data), "\x00\x05alice\x00\x05right")
	for range 2 { // service and realm
		if !ok || len(rest) < 2 {
			return false
		}
		size := int(binary.BigEndian.Uint16([]byte(rest)))
		if size > 1024 || 2+size > len(rest) {
			return false
		}
		rest = rest[2+size:]
	}
	return true
}

// handedOver is a listener that accepts what is sent to it.
type handedOver chan net.Conn

func (h handedOver) Accept() (net.Conn, error) {
	conn, ok := <-h
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (h handedOver) Close() error {
	close(h)
	return nil
}

func (h handedOver) Addr() net.Addr { return &net.UnixAddr{} }

// pair returns both ends of a connection.
func pair(t *testing.T) (server, client *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		ends[i] = conn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}
