package socket_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/tokend/socket"
)

// linger is far longer than any test: nothing that waits for it passes.
const linger = 600 // seconds

// A system that knows how refuses the passing. One that doesn't is the subject of the
// other tests here.
func TestDescriptorsAreRefusedWhereTheSystemCan(t *testing.T) {
	for name, adopted := range map[string]bool{"our own": false, "passed": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder(t), "s")
			var listener *net.UnixListener
			if adopted {
				made, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = made.Close() })
				if _, err := socket.Adopt(made); err != nil {
					t.Fatal(err)
				}
				listener = made
			} else {
				listener = listen(t, path).UnixListener
			}
			var want error
			if knowsPassRights(t, listener) {
				want = unix.EPERM
			}
			if err := passLingering(t, path, "x"); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

// Nobody who may connect, be it a stranger or a peer, can hold up logins with what it
// passes: not while a close waits, and no close waits for long.
func TestPassedSocketsThatLingerHoldNobodyUp(t *testing.T) {
	own := strconv.Itoa(os.Geteuid())
	for name, row := range map[string]struct {
		peers  []string
		most   int // connections at a time
		sends  string
		reason string // which each counts as, at once
	}{
		"a stranger's":            {nil, 0, request("alice", "right"), "peer"},
		"a peer's":                {[]string{own}, 0, request("alice", "right"), ""},
		"a peer's, half":          {[]string{own}, 0, request("alice", "right")[:9], ""},
		"a peer's, turned away":   {[]string{own}, 1, request("alice", "right")[:9], "busy"},
		"a peer's after its line": {[]string{own}, 0, request("alice", "right") + "x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &serving{path: filepath.Join(folder(t), "s"), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
			listener := listen(t, s.path)
			letPassRights(t, listener.UnixListener)
			const times = 10
			goroutines := runtime.NumGoroutine()
			if row.most == 1 {
				dial(t, s.path) // takes the only place
			}
			for range times {
				if err := passLingering(t, s.path, row.sends); err != nil {
					t.Fatal(err)
				}
			}
			release := sync.OnceFunc(socket.HoldWakes())
			defer release()
			log := slog.New(slog.NewTextHandler(s.log, nil))
			rejections := socket.NewRejections(s.registry)
			guard := socket.NewGuard(listener, peersOf(row.peers...), log, rejections)
			server := socket.New(socket.Config{Check: alice, MaxConnections: row.most, Logger: log, Rejections: rejections})
			ctx, stop := context.WithCancel(context.Background())
			t.Cleanup(stop)
			ended := make(chan error, 1)
			go func() { ended <- server.Serve(ctx, guard) }()
			if row.reason != "" {
				eventually(t, "all are counted", func() bool { return rejected(t, s.registry)[row.reason] == times })
			}
			guard.SetPeers(peersOf(own))
			eventually(t, "others are answered", func() bool {
				got, _ := converse(dial(t, s.path), request("alice", "right"))
				return got == yes
			})
			release()
			stop()
			mustEnd(t, ended)
			eventually(t, "none is still being closed", func() bool { return runtime.NumGoroutine() <= goroutines })
		})
	}
}

// A signal that comes before the wait ends nothing: others follow.
func TestAWaitThatBeginsLateIsEndedToo(t *testing.T) {
	lingering := lingeringSocket(t)
	stop := socket.Unstick()
	defer stop()
	time.Sleep(100 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- unix.Close(lingering) }()
	mustEnd(t, closed)
}

// What waits in the queue is closed with the listener.
func TestPassedSocketsThatLingerDoNotHoldUpTheEnd(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	listener := listen(t, path)
	letPassRights(t, listener.UnixListener)
	for range 10 {
		if err := passLingering(t, path, "x"); err != nil {
			t.Fatal(err)
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- listener.Close() }()
	mustEnd(t, closed)
}

// knowsPassRights reports whether the system can refuse the passing.
func knowsPassRights(t *testing.T, l *net.UnixListener) bool {
	t.Helper()
	return option(t, l, func(fd int) error {
		_, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS)
		return err
	}) == nil
}

// letPassRights makes the system as one that cannot refuse it.
func letPassRights(t *testing.T, l *net.UnixListener) {
	t.Helper()
	err := option(t, l, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 1) })
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		t.Fatal(err)
	}
}

func option(t *testing.T, l *net.UnixListener, call func(fd int) error) (err error) {
	t.Helper()
	raw, failed := l.SyscallConn()
	if failed == nil {
		failed = raw.Control(func(fd uintptr) { err = call(int(fd)) })
	}
	if failed != nil {
		t.Fatal(failed)
	}
	return err
}

// passLingering connects, sends the bytes together with a TCP socket whose close
// lingers, and hangs up: what is passed is then nobody's but the receiver's.
func passLingering(t *testing.T, path, bytes string) error {
	t.Helper()
	conn := dial(t, path).(*net.UnixConn)
	lingering := lingeringSocket(t)
	_, _, err := conn.WriteMsgUnix([]byte(bytes), unix.UnixRights(lingering), nil)
	if err != nil { // it is still ours alone
		_ = unix.SetsockoptLinger(lingering, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{})
	}
	return errors.Join(err, unix.Close(lingering), conn.Close())
}

// lingeringSocket is a connection on the loopback with bytes that nobody reads, so
// that its close waits until they are gone.
func lingeringSocket(t *testing.T) int {
	t.Helper()
	config := net.ListenConfig{}
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	unread, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unread.Close() })
	if err := dialed.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = dialed.Write(make([]byte, 1<<20))
	}
	file, err := dialed.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	_ = dialed.Close()
	fd, err := unix.Dup(int(file.Fd()))
	if err == nil {
		err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: linger})
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
