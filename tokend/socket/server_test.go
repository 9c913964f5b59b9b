package socket_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/socket"
	"tokend/tokend/verify"
)

type check = func(ctx context.Context, user, secret string) verify.Verdict

// serving is a server without a guard.
type serving struct {
	path     string
	registry *prometheus.Registry
	log      *syncBuffer
}

// serve answers until the test ends. Most is how many connections may be open;
// 0: as many as there may be by default.
func serve(t *testing.T, most int, check check) *serving {
	t.Helper()
	s := &serving{path: filepath.Join(folder(t), "s"), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	run(t, s.server(most, check), listen(t, s.path))
	return s
}

func (s *serving) server(most int, check check) *socket.Server {
	return socket.New(socket.Config{
		Check: check, MaxConnections: most,
		Logger:     slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Rejections: socket.NewRejections(s.registry),
	})
}

func TestTheVerdictIsTheReply(t *testing.T) {
	for _, row := range []struct {
		verdict verify.Verdict
		want    string
	}{
		{verify.Verdict{Reason: verify.OK}, yes},
		{verify.Verdict{Reason: verify.OK, Token: "id", Detail: net.ErrClosed}, yes},
		{verify.Verdict{Reason: verify.Malformed}, no("malformed")},
		{verify.Verdict{Reason: verify.Unknown}, no("unknown")},
		{verify.Verdict{Reason: verify.Expired, Token: "id"}, no("expired")},
		{verify.Verdict{Reason: verify.Revoked}, no("revoked")},
		{verify.Verdict{Reason: verify.WrongUser, Detail: net.ErrClosed}, no("wrong-user")},
		{verify.Verdict{Reason: verify.UserDisabled}, no("user-disabled")},
		{verify.Verdict{Reason: verify.Unavailable}, no("unavailable")},
		{verify.Verdict{}, no("")},
		{verify.Verdict{Reason: "OK"}, no("OK")},
	} {
		s := serve(t, 0, func(context.Context, string, string) verify.Verdict { return row.verdict })
		if got := exchange(t, s.path, request("alice", "right")); got != row.want {
			t.Errorf("%+v: got %q, want %q", row.verdict, got, row.want)
		}
		mustBeRejected(t, s, nil)
	}
}

func TestTheCheckGetsWhatWasSent(t *testing.T) {
	type pair struct{ user, secret string }
	for _, sent := range []pair{
		{"alice", "irt_secret"}, {"", ""}, {"alice", ""}, {"", "x"}, {"a\x00b", "c\x00d"}, {"\xff\xfe", "\xed\xa0\x80"},
		{"--help", "OK"}, {"é\n", "a\nb\r\n"}, {strings.Repeat("u", 1024), strings.Repeat("s", 1024)},
	} {
		var got pair
		s := serve(t, 0, func(ctx context.Context, user, secret string) verify.Verdict {
			got = pair{user, secret}
			deadline, ok := ctx.Deadline()
			if left := time.Until(deadline); !ok || ctx.Err() != nil || left > 2*time.Second {
				t.Errorf("%q: the check may take %v, %v", sent, left, ctx.Err())
			}
			return verify.Verdict{Reason: verify.OK}
		})
		// What stands behind it is not read, so the connection is reset after the reply.
		if reply, _ := converse(dial(t, s.path), request(sent.user, sent.secret)+"more behind it"); reply != yes || got != sent {
			t.Errorf("%q: the check got %q, the reply is %q", sent, got, reply)
		}
	}
}

func TestACheckIsToldWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	s := serve(t, 0, func(ctx context.Context, _, _ string) verify.Verdict {
		<-ctx.Done()
		return verify.Verdict{Reason: verify.Unavailable}
	})
	begun := time.Now()
	if got := exchange(t, s.path, request("alice", "right")); got != no("unavailable") {
		t.Errorf("got %q", got)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestHalfARequestIsCutAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := serve(t, 0, alice)
	whole := request("alice", "right")
	halves := []string{"", "\x00", "\x00\x05", whole[:4], whole[:9], whole[:len(whole)-1], "\x04\x00" + strings.Repeat("x", 1023)}
	begun := time.Now()
	var slow sync.WaitGroup
	var cut atomic.Int32
	for _, half := range halves {
		conn := dial(t, s.path)
		slow.Go(func() {
			defer cut.Add(1)
			if got, err := converse(conn, half); got != no("malformed") || err != nil {
				t.Errorf("after %q: got %q, %v", half, got, err)
			}
		})
	}
	trickling := dial(t, s.path)
	slow.Go(func() {
		defer cut.Add(1)
		for i := 0; ; i++ {
			if _, err := trickling.Write([]byte{0}[:min(i%9, 1)]); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
			if time.Since(begun) > 20*time.Second {
				t.Error("a byte now and then keeps a connection open")
				return
			}
		}
	})
	for range 20 {
		if got := exchange(t, s.path, whole); got != yes {
			t.Errorf("meanwhile: got %q", got)
		}
	}
	if n := cut.Load(); n != 0 {
		t.Errorf("%d were cut before others were answered: nothing was shown", n)
	}
	slow.Wait()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	mustBeRejected(t, s, map[string]float64{"timeout": float64(len(halves))})
}

func TestALengthOverTheLimitIsRefusedAtOnce(t *testing.T) {
	lies := []string{"\x04\x01", "\xff\xff", "\x00\x05alice\x04\x01", "\x00\x05alice\x00\x05right\x00\x05irods\xff\xff"}
	s := serve(t, 0, never(t))
	for _, lie := range lies {
		if got := exchange(t, s.path, lie); got != no("malformed") {
			t.Errorf("%q: got %q", lie, got)
		}
	}
	// Had it waited for more, these were counted as too slow.
	mustBeRejected(t, s, map[string]float64{"malformed": float64(len(lies))})
}

func TestACallerWhoHangsUpInTheMiddleIsCounted(t *testing.T) {
	s := serve(t, 0, never(t))
	whole := request("alice", "right")
	for n := range whole {
		conn := dial(t, s.path)
		if _, err := conn.Write([]byte(whole[:n])); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mustBeRejected(t, s, map[string]float64{"incomplete": float64(len(whole))})
}

func TestACallerWhoEndsItsHalfInTheMiddleIsRefused(t *testing.T) {
	s := serve(t, 0, never(t))
	conn := dial(t, s.path)
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := converse(conn, ""); got != no("malformed") || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	mustBeRejected(t, s, map[string]float64{"incomplete": 1})
}

func TestACallerWhoHangsUpBeforeTheReplyHurtsNobody(t *testing.T) {
	for password, good := range map[string]bool{"right": true, "s3cret": false} {
		left := make(chan struct{})
		s := serve(t, 0, func(ctx context.Context, user, secret string) verify.Verdict {
			<-left
			return alice(ctx, user, secret)
		})
		conn := dial(t, s.path)
		if _, err := conn.Write([]byte(request("alice", password))); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		close(left)
		eventually(t, "the log tells", func() bool { return strings.Contains(s.log.String(), "nobody waited for this") })
		if got := exchange(t, s.path, request("alice", "right")); got != yes {
			t.Errorf("the next one: got %q", got)
		}
		// The verdict alone would tell of a login.
		told := `level=DEBUG msg="nobody waited for this no" err=`
		if good {
			told = `level=WARN msg="nobody waited for this yes: to the caller it was a no" user=alice token=4k2jx01mfp9a err=`
		}
		if strings.Count(s.log.String(), "nobody waited") != 1 || !strings.Contains(s.log.String(), told) {
			t.Errorf("%s: the log lacks %s: %s", password, told, s.log)
		}
		if strings.Contains(s.log.String(), "s3cret") {
			t.Errorf("the log has the secret: %s", s.log)
		}
	}
}

func TestOverTheLimitTheAnswerIsBusy(t *testing.T) {
	const most = 3
	release, checking := make(chan struct{}), make(chan struct{}, most)
	s := serve(t, most, func(ctx context.Context, user, secret string) verify.Verdict {
		if user == "holding" {
			checking <- struct{}{}
			<-release
		}
		return alice(ctx, user, secret)
	})
	var holding sync.WaitGroup
	for range most {
		conn := dial(t, s.path)
		holding.Go(func() {
			if got, err := converse(conn, request("holding", "x")); got != no("unknown") || err != nil {
				t.Errorf("one that holds: got %q, %v", got, err)
			}
		})
	}
	for range most {
		<-checking
	}
	for range 5 {
		// The server doesn't read it, so writing may fail.
		if got, _ := converse(dial(t, s.path), request("alice", "right")); got != no("busy") {
			t.Errorf("one too many: got %q", got)
		}
	}
	close(release)
	holding.Wait()
	eventually(t, "there is room again", func() bool {
		got, _ := converse(dial(t, s.path), request("alice", "right"))
		return got == yes
	})
	if got := rejected(t, s.registry)["busy"]; got < 5 {
		t.Errorf("%v were counted as busy", got)
	}
}

func TestAcceptMayFailForATime(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	s := &serving{path: path, registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	failing := &failingListener{Listener: listen(t, path)}
	failing.left.Store(3)
	run(t, s.server(0, alice), failing)
	for range 3 {
		if got := exchange(t, path, request("alice", "right")); got != yes {
			t.Errorf("got %q", got)
		}
	}
	if n := strings.Count(s.log.String(), "level=ERROR"); n != 3 || !strings.Contains(s.log.String(), "too many open files") {
		t.Errorf("the log says %s", s.log)
	}
}

// failingListener fails as many times before it accepts.
type failingListener struct {
	net.Listener
	left atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// never is a check that must not be made.
func never(t *testing.T) check {
	t.Helper()
	return func(_ context.Context, user, _ string) verify.Verdict {
		t.Errorf("%q was checked", user)
		return verify.Verdict{}
	}
}

// mustBeRejected compares all counts; those that are not given are 0, and
// there all the same.
func mustBeRejected(t *testing.T, s *serving, counts map[string]float64) {
	t.Helper()
	want := map[string]float64{"peer": 0, "busy": 0, "timeout": 0, "malformed": 0, "incomplete": 0}
	total := 0.0
	for reason, n := range counts {
		want[reason] = n
		total += n
	}
	eventually(t, fmt.Sprint("there are ", total), func() bool {
		sum := 0.0
		for _, n := range rejected(t, s.registry) {
			sum += n
		}
		return sum >= total
	})
	if diff := cmp.Diff(want, rejected(t, s.registry)); diff != "" {
		t.Errorf("rejections (-want +got):\n%s", diff)
	}
}
