package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestASilentServerIsPassedOver while there is a connection to another one, and only then.
func TestASilentServerIsPassedOver(t *testing.T) {
	t.Parallel()
	silentOne := full(t)
	for what, c := range map[string]struct {
		state, other state
		want         bool
	}{
		"there is one":        {silent, answers, true},
		"there is none":       {silent, unknown, false},
		"the other one, too":  {silent, silent, false},
		"it answers":          {answers, answers, false},
		"it takes nobody now": {unknown, answers, false},
	} {
		d := newDialer()
		d.note("other", c.other, time.Now())
		d.note(silentOne, c.state, time.Now())
		for range 2 {
			if got := d.passOver(t.Context(), "tcp", silentOne); got != c.want {
				t.Errorf("%s: it is passed over: %t", what, got)
			}
		}
	}
	only := newDialer()
	only.note(silentOne, silent, time.Now())
	if only.passOver(t.Context(), "tcp", silentOne) {
		t.Error("the only one is passed over")
	}
}

// TestASilentServerIsAskedNowAndThen, not by each who wants a connection, and not for one alone.
func TestASilentServerIsAskedNowAndThen(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	address := listen(t, func(net.Conn) { asked.Add(1) })
	d := newDialer()
	d.note("other", answers, time.Now())
	d.note(address, silent, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if !d.passOver(ctx, "tcp", address) {
			t.Error("it is not passed over")
		}
	}
	if !d.passOver(t.Context(), "tcp", address) {
		t.Error("it is not passed over by one who waits")
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestAServerThatIsConnectedToMeanwhileIsNoLessKnown: the answer to the question comes later.
func TestAServerThatIsConnectedToMeanwhileIsNoLessKnown(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	address := listen(t, func(conn net.Conn) {
		close(asked)
		<-answer
		_, _ = conn.Write([]byte("N"))
	})
	d := newDialer()
	d.note("other", answers, time.Now())
	d.note(address, silent, time.Now())
	passed := make(chan bool)
	go func() { passed <- d.passOver(t.Context(), "tcp", address) }()
	<-asked
	d.note(address, answers, time.Now())
	close(answer)
	if <-passed {
		t.Error("it is passed over")
	}
	if got := d.server(address).state; got != answers {
		t.Errorf("it is %d", got)
	}
}

// TestAServerThatWasSilentIsTriedWhenItAnswers, at once, whether it takes connections or not.
func TestAServerThatWasSilentIsTriedWhenItAnswers(t *testing.T) {
	t.Parallel()
	for what, address := range map[string]string{
		"it answers":     listen(t, func(conn net.Conn) { _, _ = conn.Write([]byte("N")) }),
		"it hangs up":    listen(t, func(conn net.Conn) { conn.Close() }),
		"nobody listens": closedPort(t),
	} {
		d := newDialer()
		d.note("other", answers, time.Now())
		d.note(address, silent, time.Now())
		if d.passOver(t.Context(), "tcp", address) {
			t.Errorf("%s: it is passed over", what)
		}
	}
}

// TestWhatIsOldSaysNothing: a try that began before another one has found the server well.
func TestWhatIsOldSaysNothing(t *testing.T) {
	t.Parallel()
	d, begun := newDialer(), time.Now()
	d.note("other", answers, begun)
	d.note("one", answers, begun)
	d.note("one", silent, begun.Add(-time.Second))
	if got := d.server("one").state; got != answers {
		t.Errorf("what is old is noted: it is %d", got)
	}
	d.note("one", silent, time.Now())
	if got := d.server("one").state; got != silent {
		t.Errorf("what is new is not noted: it is %d", got)
	}
}

// TestHowAServerIsIsNoted, whether it takes no connection, says nothing, or answers.
func TestHowAServerIsIsNoted(t *testing.T) {
	t.Parallel()
	says := listen(t, func(conn net.Conn) { _, _ = conn.Write([]byte("N")) })
	for what, c := range map[string]struct {
		address      string
		before, want state
	}{
		"nobody listens":           {closedPort(t), answers, unknown},
		"it takes no connection":   {full(t), unknown, silent},
		"it says nothing":          {listen(t, func(net.Conn) {}), unknown, silent},
		"it hangs up":              {listen(t, func(conn net.Conn) { conn.Close() }), unknown, unknown},
		"there is a connection":    {says, unknown, answers},
		"nobody waits any more":    {listen(t, func(net.Conn) {}), answers, unknown},
		"it says nothing, at last": {says, unknown, answers},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newDialer()
			d.note(c.address, c.before, time.Now())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if what == "nobody waits any more" {
				cancel()
			}
			conn, err := d.dial(ctx, "tcp", c.address)
			if err == nil {
				defer conn.Close()
				if _, err := conn.Read(make([]byte, 1)); err == nil {
					check(t, conn.SetDeadline(time.Time{})) // as established does
				}
			}
			if what == "it says nothing, at last" {
				check(t, conn.SetDeadline(time.Now()))
				_, _ = conn.Read(make([]byte, 1))
			}
			if got := d.server(c.address).state; got != c.want {
				t.Errorf("it is %d, want %d", got, c.want)
			}
		})
	}
}

// TestWhoIsPassedOverIsAsked, and tried again as soon as there is an answer.
func TestWhoIsPassedOverIsAsked(t *testing.T) {
	t.Parallel()
	asked := make(chan []byte, 9)
	address := listen(t, func(conn net.Conn) {
		b := make([]byte, 9)
		n, _ := conn.Read(b)
		asked <- b[:n]
		if len(asked) > 1 { // the first one gets no answer
			_, _ = conn.Write([]byte("N"))
		}
	})
	d := newDialer()
	d.note("other", answers, time.Now())
	d.note(address, silent, time.Now())
	_, err := d.dial(t.Context(), "tcp", address)
	if !errors.Is(err, errSilent) {
		t.Fatalf("got %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := d.dial(t.Context(), "tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it is passed over for ever")
		}
	}
	if first := <-asked; !slices.Equal(first, sslRequest) {
		t.Errorf("it was asked %x", first)
	}
}

// TestAllWhoAreSilentAreAskedAtOnce: one after the other they would take what time there is.
func TestAllWhoAreSilentAreAskedAtOnce(t *testing.T) {
	t.Parallel()
	d := newDialer()
	d.note("other", answers, time.Now())
	var silentOnes []string
	var asked [3]atomic.Bool
	for i := range asked {
		address := listen(t, func(net.Conn) { asked[i].Store(true) })
		silentOnes = append(silentOnes, address)
		if d.passOver(t.Context(), "tcp", address) {
			t.Fatal("who was never silent is passed over")
		}
		d.note(address, silent, time.Now())
	}
	if !d.passOver(t.Context(), "tcp", silentOnes[0]) {
		t.Fatal("it is not passed over")
	}
	for i := range asked {
		if !asked[i].Load() {
			t.Errorf("%d is not asked yet", i)
		}
	}
}

// TestWhatIsPassedOverIsLateToo: a server may answer what is asked again.
func TestWhatIsPassedOverIsLateToo(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for err, want := range map[error]bool{
		errSilent: true, errors.Join(refused, fmt.Errorf("dial: %w", errSilent)): true, os.ErrDeadlineExceeded: true,
		refused: false, errors.Join(refused, refused): false, nil: false,
	} {
		if got := TimedOut(err); got != want {
			t.Errorf("%v: got %t", err, got)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listen returns where each connection is served.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}

// full returns where no connection is taken any more.
func full(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	raw, err := l.(*net.TCPListener).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	for range 8 {
		conn, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
		if err != nil {
			return l.Addr().String()
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("it takes all")
	return ""
}
