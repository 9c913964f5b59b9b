package wire_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tokend/pamhelper/wire"
)

// handler is what the daemon in a test does with one connection.
type handler func(net.Conn)

// answer reads the request, which must be the one of ask, and sends bytes.
func answer(t *testing.T, bytes string) handler {
	t.Helper()
	return func(c net.Conn) {
		mustReadTheRequest(t, c)
		_, _ = io.WriteString(c, bytes)
	}
}

// stall does the same and keeps the connection until the other side ends it.
func stall(t *testing.T, bytes string) handler {
	t.Helper()
	return func(c net.Conn) {
		answer(t, bytes)(c)
		_, _ = io.Copy(io.Discard, c)
	}
}

func trickle(t *testing.T, bytes string) handler {
	t.Helper()
	return func(c net.Conn) {
		mustReadTheRequest(t, c)
		for i := range len(bytes) {
			_, _ = io.WriteString(c, bytes[i:i+1])
			time.Sleep(15 * time.Millisecond)
		}
	}
}

// unread answers as a daemon that is too busy to read.
func unread(bytes string) handler {
	return func(c net.Conn) { _, _ = io.WriteString(c, bytes) }
}

func mustReadTheRequest(t *testing.T, c net.Conn) {
	t.Helper()
	got, err := wire.ReadRequest(c)
	if err != nil || string(got.Login) != login || string(got.Secret) != secret || string(got.Service) != "irods" || len(got.Realm) != 0 {
		t.Errorf("the daemon got %q, %q, %q, %q, %v", got.Login, got.Secret, got.Service, got.Realm, err)
	}
}

const (
	ok      = "\x00\x02OK"
	expired = "\x00\x0aNO expired"
	busy    = "\x00\x07NO busy"
)

// fullQueue makes a socket whose queue has no place left.
func fullQueue(t *testing.T, path string) net.Listener {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = file.Close() })
	address := &syscall.SockaddrUnix{Name: path}
	if err := errors.Join(syscall.Bind(fd, address), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for {
		filler, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = syscall.Connect(filler, address)
		if closed := syscall.Close(filler); closed != nil {
			t.Fatal(closed)
		}
		if err == syscall.EAGAIN {
			return listener
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// serve answers connections at a path of its own until the test ends. It counts
// them.
func serve(t *testing.T, daemon ...handler) (path string, connections *atomic.Int32) {
	t.Helper()
	path = socketPath(t)
	return path, serveAt(t, path, daemon...)
}

func serveAt(t *testing.T, path string, daemon ...handler) *atomic.Int32 {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Error(err)
		return nil
	}
	var connections atomic.Int32
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n := int(connections.Add(1))
			handlers.Go(func() {
				daemon[min(n, len(daemon))-1](c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		handlers.Wait()
	})
	return &connections
}

// socketPath is a path that is free, short enough, and open to every user.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "s")
}

func padded(t *testing.T, size int) string {
	t.Helper()
	path := socketPath(t)
	return path + strings.Repeat("s", size-len(path))
}
