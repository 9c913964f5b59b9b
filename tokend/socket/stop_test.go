package socket_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/verify"
)

// stoppable serves until stop is called; ended then has what Serve returned.
func stoppable(t *testing.T, check check) (s *serving, stop func(), ended chan error) {
	t.Helper()
	s = &serving{path: filepath.Join(folder(t), "s"), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended = make(chan error, 1)
	server, listener := s.server(0, check), listen(t, s.path)
	go func() { ended <- server.Serve(ctx, listener) }()
	return s, stop, ended
}

func mustEnd(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Serve does not return")
	}
}

func TestRequestsUnderWayHaveTheirReplyWhenTheServerEnds(t *testing.T) {
	release, checking := make(chan struct{}), make(chan struct{})
	s, stop, ended := stoppable(t, func(ctx context.Context, user, secret string) verify.Verdict {
		checking <- struct{}{}
		<-release
		if ctx.Err() != nil {
			t.Errorf("the check is told to stop: %v", ctx.Err())
		}
		return alice(ctx, user, secret)
	})
	const underWay = 5
	var replies sync.WaitGroup
	for range underWay {
		conn := dial(t, s.path)
		replies.Go(func() {
			if got, err := converse(conn, request("alice", "right")); got != yes || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
		<-checking
	}
	stop()
	eventually(t, "nobody listens", func() bool {
		conn, err := net.Dial("unix", s.path)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if _, err := os.Lstat(s.path); err == nil {
		t.Error("the socket file is left behind")
	}
	select {
	case err := <-ended:
		t.Errorf("Serve returned before the replies: %v", err)
	default:
	}
	close(release)
	replies.Wait()
	mustEnd(t, ended)
}

func TestARequestThatIsHalfSentWhenTheServerEndsMayBeFinished(t *testing.T) {
	s, stop, ended := stoppable(t, alice)
	whole := request("alice", "right")
	half := dial(t, s.path)
	if _, err := half.Write([]byte(whole[:9])); err != nil {
		t.Fatal(err)
	}
	exchange(t, s.path, whole) // so the one before it was accepted
	stop()
	if got, err := converse(half, whole[9:]); got != yes || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	mustEnd(t, ended)
}

func TestServeReturnsNilWhenItsContextHasEnded(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	s := &serving{path: path, registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.server(0, never(t)).Serve(ctx, listen(t, path)); err != nil {
		t.Error(err)
	}
}

func TestServeSaysWhenItsListenerIsGone(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	s := &serving{path: path, registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	listener := listen(t, path)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.server(0, never(t)).Serve(t.Context(), listener); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestManyAtOnceAreAnsweredEachForItselfAndNothingIsLeftOpen(t *testing.T) {
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	s, stop, ended := stoppable(t, func(_ context.Context, user, secret string) verify.Verdict {
		if secret == "secret of "+user {
			return verify.Verdict{Reason: verify.OK}
		}
		return verify.Verdict{Reason: verify.WrongUser}
	})
	const callers = 300
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			<-start
			for round := range 3 {
				user := fmt.Sprintf("user%d.%d", i, round)
				secret, want := "secret of "+user, yes
				if (i+round)%2 == 0 {
					secret, want = "secret of somebody", no("wrong-user")
				}
				conn, err := net.Dial("unix", s.path)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := converse(conn, request(user, secret)); got != want || err != nil {
					t.Errorf("%s with %q: got %q, %v; want %q", user, secret, got, err, want)
				}
			}
		})
	}
	close(start)
	all.Wait()
	mustBeRejected(t, s, nil)
	stop()
	mustEnd(t, ended)
	eventually(t, "goroutines are as before", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "descriptors are as before", func() bool { return openFiles(t) <= descriptors })
}

// openFiles counts this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
