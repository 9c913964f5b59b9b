package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// TestServiceManagerThatDoesNotListenIsNotWaitedFor: and what it missed it hears
// in the end.
func TestServiceManagerThatDoesNotListenIsNotWaitedFor(t *testing.T) {
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	manager, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	clog(t, address)
	t.Setenv("NOTIFY_SOCKET", address.Name)

	var log bytes.Buffer
	n := newNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	n.wait = 100 * time.Millisecond
	states := []string{daemon.SdNotifyReloading, daemon.SdNotifyReady, daemon.SdNotifyStopping}
	told := make(chan struct{})
	go func() {
		defer close(told)
		for _, state := range states {
			n.tell(state)
		}
	}()
	select {
	case <-told:
	case <-time.After(20 * time.Second):
		t.Fatal("it is still waited for")
	}
	if got := strings.Count(log.String(), "service manager was not told"); got != len(states) {
		t.Errorf("%d warnings: %s", got, &log)
	}

	if err := manager.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for heard := make([]byte, 100); len(states) > 0; {
		size, err := manager.Read(heard)
		if err != nil {
			t.Fatalf("waiting for %q: %v", states[0], err)
		}
		switch got := string(heard[:size]); got {
		case filler:
		case states[0]:
			states = states[1:]
		default:
			t.Fatalf("heard %q, want %q", got, states[0])
		}
	}
}

func TestNoticesAreSentInOrder(t *testing.T) {
	n := newNotifier(slog.New(slog.DiscardHandler))
	if n.wait != time.Second {
		t.Errorf("it waits for %s", n.wait)
	}
	n.wait = time.Millisecond
	listens, sent := make(chan struct{}), make(chan string, 3)
	n.send = func(state string) error {
		if state == "first" {
			<-listens
		}
		sent <- state
		return nil
	}
	for _, state := range []string{"first", "second", "third"} {
		n.tell(state)
	}
	close(listens)
	for _, want := range []string{"first", "second", "third"} {
		if got := <-sent; got != want {
			t.Errorf("%s was sent, want %s", got, want)
		}
	}
}

const filler = "X_FILLER=1"

// clog sends datagrams until nobody takes them any more.
func clog(t *testing.T, address *net.UnixAddr) {
	t.Helper()
	conn, err := net.DialUnix("unixgram", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for err == nil {
		if err := conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write([]byte(filler))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}
