package socket_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/socket"
	"tokend/tokend/verify"
)

// pipes is a listener without a network, for tests of times: synctest's clock
// doesn't wait for the kernel.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

// servePipes answers until the test ends.
func servePipes(t *testing.T, most int, check check) (*serving, *pipes) {
	t.Helper()
	s := &serving{registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	run(t, s.server(most, check), p)
	return s, p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// dial returns the caller's end of a connection that was accepted.
func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	p.conns <- theirs
	t.Cleanup(func() { _ = ours.Close() })
	return ours
}

func TestWhoSaysNothingIsCutAfterASecond(t *testing.T) {
	for _, half := range []string{"", request("alice", "right")[:9]} {
		synctest.Test(t, func(t *testing.T) {
			_, p := servePipes(t, 0, never(t))
			begun := time.Now()
			got, err := converse(p.dial(t), half)
			if took := time.Since(begun); got != no("malformed") || err != nil || took != 1200*time.Millisecond {
				t.Errorf("after %q: got %q, %v in %v", half, got, err, took)
			}
		})
	}
}

// TestWhatIsThereWhenTheTimeIsUpIsRead: the daemon itself may have been held up.
func TestWhatIsThereWhenTheTimeIsUpIsRead(t *testing.T) {
	for wait, want := range map[time.Duration]string{time.Second: yes, 1199 * time.Millisecond: yes, 1201 * time.Millisecond: ""} {
		synctest.Test(t, func(t *testing.T) {
			_, p := servePipes(t, 0, alice)
			conn := p.dial(t)
			time.Sleep(wait)
			if got, _ := converse(conn, request("alice", "right")); got != want {
				t.Errorf("after %v: got %q, want %q", wait, got, want)
			}
		})
	}
}

// TestAByteNowAndThenGainsNoTime, neither before the last look nor in it.
func TestAByteNowAndThenGainsNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := servePipes(t, 0, never(t))
		conn := p.dial(t)
		begun := time.Now()
		var slow sync.WaitGroup
		slow.Go(func() {
			for _, b := range []byte(request("alice", "right")) {
				time.Sleep(90 * time.Millisecond)
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
			}
		})
		got, _ := converse(conn, "")
		took := time.Since(begun)
		slow.Wait()
		if got != no("malformed") || took != 1200*time.Millisecond {
			t.Errorf("got %q in %v", got, took)
		}
	})
}

// TestWhoDoesNotReadIsLeftAfterASecond: until then the reply is there.
func TestWhoDoesNotReadIsLeftAfterASecond(t *testing.T) {
	for wait, want := range map[time.Duration]string{time.Second - 1: yes, time.Second + 1: ""} {
		synctest.Test(t, func(t *testing.T) {
			_, p := servePipes(t, 0, alice)
			conn := p.dial(t)
			if _, err := conn.Write([]byte(request("alice", "right"))); err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			if got, _ := converse(conn, ""); got != want { // a pipe that was closed is an error
				t.Errorf("after %v: got %q", wait, got)
			}
		})
	}
}

func TestAVerdictMayTakeASecondAndAHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := servePipes(t, 0, func(ctx context.Context, _, _ string) verify.Verdict {
			<-ctx.Done()
			return verify.Verdict{Reason: verify.Unavailable}
		})
		begun := time.Now()
		got, err := converse(p.dial(t), request("alice", "right"))
		if took := time.Since(begun); got != no("unavailable") || err != nil || took != 1500*time.Millisecond {
			t.Errorf("got %q, %v in %v", got, err, took)
		}
	})
}

func TestByDefault1024MayBeOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, 0, alice)
		for range 1024 {
			p.dial(t)
		}
		if got, err := converse(p.dial(t), ""); got != no("busy") || err != nil {
			t.Errorf("one more: got %q, %v", got, err)
		}
		if got := rejected(t, s.registry)["busy"]; got != 1 {
			t.Errorf("%v were turned away", got)
		}
	})
}

// TestAFloodDoesNotFillTheLog: the first ten are told, then one a second.
func TestAFloodDoesNotFillTheLog(t *testing.T) {
	for reason, line := range map[string]string{"busy": "too many are open", "incomplete": "it did not come whole"} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			s, p := servePipes(t, 1, func(context.Context, string, string) verify.Verdict {
				<-release
				return verify.Verdict{}
			})
			if reason == "busy" { // somebody has the only place
				if _, err := p.dial(t).Write([]byte(request("alice", "right"))); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range []int{10, 11, 12} {
				for range 200 {
					conn := p.dial(t)
					synctest.Wait() // it is being read, or refused
					if err := conn.Close(); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				if got := strings.Count(s.log.String(), line); got != want {
					t.Errorf("%s: %d lines, want %d", reason, got, want)
				}
				time.Sleep(1001 * time.Millisecond)
			}
			if got := rejected(t, s.registry)[reason]; got != 600 {
				t.Errorf("%s: %v were counted", reason, got)
			}
		})
	}
}

// What takes its time beside the accepting is bounded: each may hold a thread.
func TestOnlySoManyRunAside(t *testing.T) {
	const most, all = 256, 300
	release := make(chan struct{})
	var begun, ended atomic.Int32
	for range all {
		go socket.Aside(func() {
			begun.Add(1)
			<-release
			ended.Add(1)
		})
	}
	eventually(t, "as many run as may", func() bool { return begun.Load() == most })
	time.Sleep(20 * time.Millisecond) // for one more
	if n := begun.Load(); n != most {
		t.Errorf("%d run at once, want %d", n, most)
	}
	close(release)
	eventually(t, "all have run", func() bool { return ended.Load() == all })
}

// failingPipes fails as many times before it accepts.
type failingPipes struct {
	*pipes
	left int
}

func (p *failingPipes) Accept() (net.Conn, error) {
	if p.left--; p.left >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.ENOMEM}
	}
	return p.pipes.Accept()
}

// What there is too little of is not asked for all the time.
func TestAcceptThatFailsIsTriedAgainEverMoreSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &failingPipes{&pipes{conns: make(chan net.Conn, 1)}, 10}
		_, theirs := net.Pipe()
		p.conns <- theirs
		begun := time.Now()
		log := &syncBuffer{}
		conn, err := socket.Patient(p, slog.New(slog.NewTextHandler(log, nil))).Accept()
		if conn != theirs || err != nil {
			t.Errorf("got %v, %v", conn, err)
		}
		want := 3275 * time.Millisecond // 5, 10, 20 … 640 ms, and two seconds
		if got := time.Since(begun); got != want {
			t.Errorf("it took %v, want %v", got, want)
		}
		if n := strings.Count(log.String(), "connection not accepted"); n != 10 {
			t.Errorf("it is told %d times:\n%s", n, log)
		}
	})
}
