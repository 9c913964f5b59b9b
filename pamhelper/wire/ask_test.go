package wire_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/pamhelper/wire"
)

func TestWhatTheDaemonAnswersIsWhatAskReturns(t *testing.T) {
	t.Parallel()
	const short, long = 300 * time.Millisecond, 5 * time.Second
	answer := func(bytes string) handler { return answer(t, bytes) }
	stall := func(bytes string) handler { return stall(t, bytes) }
	for _, row := range []struct {
		name   string
		daemon []handler // one for each connection; the last for all that follow
		within time.Duration
		want   result
		tries  int // 0: several
	}{
		{"yes", []handler{answer(ok)}, long, yes(""), 1},
		{"yes, with a text", []handler{answer("\x00\x0aOK welcome")}, long, yes("welcome"), 1},
		{"yes, and keeps the line", []handler{stall(ok)}, long, yes(""), 1},
		{"yes, and more", []handler{answer(ok + "more")}, long, yes(""), 1},
		{"yes, byte by byte", []handler{trickle(t, "\x00\x0aOK welcome")}, long, yes("welcome"), 1},
		{"no, with a reason", []handler{answer(expired)}, long, no("expired"), 1},
		{"no, byte by byte", []handler{trickle(t, expired)}, long, no("expired"), 1},
		{"no, unread", []handler{unread(expired)}, long, no("expired"), 1},
		{"no reason", []handler{answer("\x00\x02NO")}, long, no(""), 1},
		{"the longest reply", []handler{answer("\x01\x00NO " + strings.Repeat("x", 253))}, long, no(strings.Repeat("x", 253)), 1},

		{"OKAY", []handler{answer("\x00\x04OKAY")}, long, failed(wire.Garbled), 1},
		{"ok", []handler{answer("\x00\x02ok")}, long, failed(wire.Garbled), 1},
		{"Ok", []handler{answer("\x00\x02Ok")}, long, failed(wire.Garbled), 1},
		{"a space before OK", []handler{answer("\x00\x03 OK")}, long, failed(wire.Garbled), 1},
		{"OK and a NUL", []handler{answer("\x00\x03OK\x00")}, long, failed(wire.Garbled), 1},
		{"OK without a length", []handler{answer("OK")}, long, failed(wire.Garbled), 1},
		{"an O", []handler{answer("\x00\x01O")}, long, failed(wire.Garbled), 1},
		{"an empty reply", []handler{answer("\x00\x00")}, long, failed(wire.Garbled), 1},
		{"an empty reply, and OK behind", []handler{answer("\x00\x00OK")}, long, failed(wire.Garbled), 1},
		{"a reply of 257 bytes", []handler{answer("\x01\x01OK " + strings.Repeat("x", 254))}, long, failed(wire.Garbled), 1},
		{"a reply of 300 bytes", []handler{stall("\x01\x2cOK")}, long, failed(wire.Garbled), 1},
		{"a reply of 65535 bytes", []handler{stall("\xff\xffOK")}, long, failed(wire.Garbled), 1},

		{"silence", []handler{stall("")}, short, failed(wire.TimedOut), 1},
		{"half a length, silence", []handler{stall("\x00")}, short, failed(wire.TimedOut), 1},
		{"a length, silence", []handler{stall("\x00\x02")}, short, failed(wire.TimedOut), 1},
		{"half a reply, silence", []handler{stall("\x00\x02O")}, short, failed(wire.TimedOut), 1},
		{"OK of a longer reply, silence", []handler{stall("\x00\x0aOK ")}, short, failed(wire.TimedOut), 1},
		{"a byte now and then, too slowly", []handler{trickle(t, "\x00\xffOK "+strings.Repeat("x", 200))}, short, failed(wire.TimedOut), 1},

		{"hangs up, then yes", []handler{answer(""), answer(ok)}, long, yes(""), 2},
		{"hangs up in the reply, then yes", []handler{answer("\x00\x02O"), answer(ok)}, long, yes(""), 2},
		{"hangs up in a yes, then no", []handler{answer("\x00\x0aOK wel"), answer(expired)}, long, no("expired"), 2},
		{"reset, then yes", []handler{unread(""), answer(ok)}, long, yes(""), 2},
		{"reset thrice, then no", []handler{unread(""), unread(""), unread(""), answer(expired)}, long, no("expired"), 4},
		{"busy, then yes", []handler{answer(busy), answer(ok)}, long, yes(""), 2},
		{"busy, unread, then yes", []handler{unread(busy), answer(ok)}, long, yes(""), 2},
		{"busy thrice, then no", []handler{unread(busy), answer(busy), unread(busy), answer(expired)}, long, no("expired"), 4},
		{"hangs up, then garbled", []handler{answer(""), answer("\x00\x04OKAY")}, long, failed(wire.Garbled), 2},
		{"busy, then silence", []handler{answer(busy), stall("")}, short, failed(wire.TimedOut), 2},
		{"busier is not busy", []handler{answer("\x00\x09NO busier")}, long, no("busier"), 1},
		{"busy for ever", []handler{unread(busy)}, short, no("busy"), 0},
		{"hangs up for ever", []handler{answer("")}, short, failed(wire.Closed), 0},
		{"resets for ever", []handler{unread("")}, short, failed(wire.Closed), 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			path, connections := serve(t, row.daemon...)
			got := ask(t, path, row.within)
			if got.result != row.want {
				t.Errorf("got %v, want %v", got.result, row.want)
			}
			if n := int(connections.Load()); n != row.tries && (row.tries != 0 || n < 2) {
				t.Errorf("%d connections, want %d", n, row.tries)
			}
			got.mustEndWithin(t, row.within)
		})
	}
}

func TestADaemonThatComesBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	serving := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() {
		defer close(serving)
		serveAt(t, path, answer(t, ok))
	})
	got := ask(t, path, 5*time.Second)
	if got.result != yes("") {
		t.Errorf("got %v", got.result)
	}
	<-serving
}

// TestSilenceEndsOnTime asks at moments that are spread over the kernel's coarse
// ticks. Few may be late, by what a busy machine does to them.
func TestSilenceEndsOnTime(t *testing.T) {
	t.Parallel()
	const asks, within, late = 16, 2500 * time.Millisecond, 64 * time.Millisecond
	path, _ := serve(t, stall(t, ""))
	took := make(chan time.Duration, asks)
	for i := range asks {
		time.AfterFunc(time.Duration(i)*16*time.Millisecond, func() {
			var got timedResult
			defer func() { took <- got.took }()
			got = ask(t, path, within)
		})
	}
	tooLate := 0
	for range asks {
		if <-took > within+late {
			tooLate++
		}
	}
	if tooLate > asks/4 {
		t.Errorf("%d of %d asks ended more than %s late", tooLate, asks, late)
	}
}

func TestNobodyIsWaitedForALittleOver(t *testing.T) {
	t.Parallel()
	dead := socketPath(t)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"no file": socketPath(t), "a dead socket": dead} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ask(t, path, 20*time.Second)
			if got.result != failed(wire.NoSocket) || got.took < time.Second {
				t.Errorf("got %v after %v, want patience of two seconds", got.result, got.took)
			}
			got.mustEndWithin(t, 2*time.Second)
			got = ask(t, path, 200*time.Millisecond)
			if got.result != failed(wire.NoSocket) {
				t.Errorf("in a hurry: got %v", got.result)
			}
			got.mustEndWithin(t, 200*time.Millisecond)
		})
	}
}

func TestWhatCannotBeAskedFailsAtOnce(t *testing.T) {
	t.Parallel()
	path, connections := serve(t, answer(t, ok))
	regular := socketPath(t)
	if err := os.WriteFile(regular, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	datagram := socketPath(t)
	packets, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagram})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = packets.Close() })
	for _, row := range []struct {
		name          string
		path          string
		login, secret string
		within        time.Duration
		want          wire.Failure
	}{
		{"a path of 108 bytes", padded(t, 108), login, secret, time.Minute, wire.TooLong},
		{"a path of 5000 bytes", "/" + strings.Repeat("x", 4999), login, secret, time.Minute, wire.TooLong},
		{"a login of 1025 bytes", path, strings.Repeat("x", 1025), secret, time.Minute, wire.TooLong},
		{"a secret of 1025 bytes", path, login, strings.Repeat("x", 1025), time.Minute, wire.TooLong},
		{"a secret of 70000 bytes", path, login, strings.Repeat("x", 70000), time.Minute, wire.TooLong},
		{"a socket for datagrams", datagram, login, secret, time.Minute, wire.Broken},
		{"a folder that is a file", regular + "/s", login, secret, time.Minute, wire.Broken},
		{"no time left", path, login, secret, 0, wire.TimedOut},
		{"less than no time left", path, login, secret, -time.Hour, wire.TimedOut},
	} {
		got := askAs(t, self, row.path, row.login, row.secret, row.within)
		if got.result != failed(row.want) {
			t.Errorf("%s: got %v, want %v", row.name, got.result, failed(row.want))
		}
		got.mustEndWithin(t, 0)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestTheLongestPathAndFieldsFit(t *testing.T) {
	t.Parallel()
	path := padded(t, 107)
	serveAt(t, path, func(c net.Conn) {
		got, err := wire.ReadRequest(c)
		if err != nil || len(got.Login) != 1024 || len(got.Secret) != 1024 {
			t.Errorf("got %v, %v", got, err)
		}
		_, _ = io.WriteString(c, ok)
	})
	got := askAs(t, self, path, strings.Repeat("l", 1024), strings.Repeat("s", 1024), 5*time.Second)
	if got.result != yes("") {
		t.Errorf("got %v", got.result)
	}
}

func TestPermissionsThatKeepTheCallerOutAreNamed(t *testing.T) {
	t.Parallel()
	closed, connections := serve(t, answer(t, ok))
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	hidden, _ := serve(t, answer(t, ok))
	if err := os.Chmod(filepath.Dir(hidden), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(hidden), 0o755) })
	for name, path := range map[string]string{"the socket's": closed, "the folder's": hidden} {
		got := askAs(t, nobody, path, login, secret, time.Minute)
		if got.result != failed(wire.Forbidden) || got.took < time.Second {
			t.Errorf("%s: got %v after %v, want patience of two seconds", name, got.result, got.took)
		}
		got.mustEndWithin(t, 2*time.Second)
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// A daemon that starts makes its socket, and then lets its peers in.
func TestPermissionsAreWaitedFor(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, answer(t, ok))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = os.Chmod(path, 0o666) })
	if got := askAs(t, nobody, path, login, secret, time.Minute); got.result != yes("") {
		t.Errorf("got %v", got.result)
	}
}

func TestAFullQueueIsWaitedForUntilTheEnd(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	listener := fullQueue(t, path)
	got := ask(t, path, 300*time.Millisecond)
	if got.result != failed(wire.TimedOut) {
		t.Errorf("got %v", got.result)
	}
	got.mustEndWithin(t, 300*time.Millisecond)

	time.AfterFunc(100*time.Millisecond, func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := wire.ReadRequest(c); err == nil { // those that fill the queue ask nothing
				_, _ = io.WriteString(c, ok)
			}
			_ = c.Close()
		}
	})
	if got := ask(t, path, 5*time.Second); got.result != yes("") {
		t.Errorf("when there is room: got %v", got.result)
	}
}

// TestSignalsDoNotShortenThePauses: in a program with Go's runtime they come all
// the time, and the daemon would be asked without a pause.
func TestSignalsDoNotShortenThePauses(t *testing.T) {
	t.Parallel()
	path, connections := serve(t, func(net.Conn) {}) // hangs up
	if got := askInterrupted(t, path, 2500*time.Millisecond); got.result != failed(wire.Closed) {
		t.Errorf("got %v", got.result)
	}
	if n := connections.Load(); n < 2 || n > 20 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestWhoSleptTooLongStillSaysWhatWasWrong: the machine was asleep, or the process
// stopped, until the time was over. Why it paused is of use, "no answer in time"
// is not.
func TestWhoSleptTooLongStillSaysWhatWasWrong(t *testing.T) {
	t.Parallel()
	const within, pauses = 2 * time.Second, 6 // from then on they last 200 ms
	for range 5 {
		pausing := make(chan struct{}, 1)
		daemon := slices.Repeat([]handler{answer(t, "")}, pauses)
		daemon[pauses-1] = func(c net.Conn) {
			mustReadTheRequest(t, c)
			_ = c.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // until it has seen that, and ends its side
			select {
			case pausing <- struct{}{}:
			default: // it was told before
			}
		}
		path, connections := serve(t, daemon...)
		got := runStopped(t, child(t, "GODEBUG=asyncpreemptoff=1", path, login, secret, within), pausing, within)
		if connections.Load() > pauses { // it was too late to stop it in its pause
			continue
		}
		if got.result != failed(wire.Closed) {
			t.Errorf("got %v, want %v", got.result, failed(wire.Closed))
		}
		return
	}
	t.Error("it was never stopped in its pause")
}

func TestASignalInTheMiddleChangesNothing(t *testing.T) {
	t.Parallel()
	const short, long = 300 * time.Millisecond, 5 * time.Second
	full := socketPath(t)
	fullQueue(t, full)
	trickling, _ := serve(t, trickle(t, expired))
	silent, _ := serve(t, stall(t, "\x00\x02O"))
	for _, row := range []struct {
		name, path string
		within     time.Duration
		want       result
	}{
		{"a full queue", full, short, failed(wire.TimedOut)},
		{"a slow reply", trickling, long, no("expired")},
		{"half a reply, silence", silent, short, failed(wire.TimedOut)},
		{"nobody listens", socketPath(t), short, failed(wire.NoSocket)},
	} {
		got := askInterrupted(t, row.path, row.within)
		if got.result != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got.result, row.want)
		}
		got.mustEndWithin(t, row.within)
	}
}
