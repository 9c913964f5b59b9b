package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// served runs serveHTTP on a listener of the loopback until stop is called; ended
// then has what it returned.
func served(t *testing.T, wrap func(net.Listener) net.Listener, handler http.HandlerFunc) (address string, stop func(), ended chan error) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	n := &node{log: slog.New(slog.DiscardHandler)}
	ended = make(chan error, 1)
	go func() { ended <- n.serveHTTP(ctx, wrap(listener), handler, drainTimeout, nil, false) }()
	return listener.Addr().String(), stop, ended
}

func as(l net.Listener) net.Listener { return l }

func mustEnd(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * drainTimeout):
		t.Fatal("it does not end")
	}
}

// TestRequestUnderWayIsAnsweredAtTheEnd: an admin may be waiting for a new token,
// which nobody can be shown again.
func TestRequestUnderWayIsAnsweredAtTheEnd(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	address, stop, ended := served(t, as, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = io.WriteString(w, "the answer")
	})
	answered := make(chan string, 1)
	go func() {
		reply, err := http.Get("http://" + address)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer reply.Body.Close()
		body, err := io.ReadAll(reply.Body)
		answered <- string(body) + errorText(err)
	}()
	<-begun
	stop()
	for refused := false; !refused; time.Sleep(time.Millisecond) { // nobody listens any more
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if refused = err != nil; !refused {
			_ = conn.Close()
		}
	}
	close(release)
	if got := <-answered; got != "the answer" {
		t.Errorf("got %q", got)
	}
	mustEnd(t, ended)
}

// TestRequestThatHangsHoldsTheEndUpForAsLongAsSaid, and is no failure.
func TestRequestThatHangsHoldsTheEndUpForAsLongAsSaid(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	address, stop, ended := served(t, as, func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-release
	})
	defer close(release)
	go func() {
		if reply, err := http.Get("http://" + address); err == nil {
			_ = reply.Body.Close()
		}
	}()
	<-begun
	stop()
	mustEnd(t, ended)
}

// failing is a listener whose next accepts fail.
type failing struct {
	net.Listener
	left atomic.Int32
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.ENOMEM} // net/http gives up at this one
	}
	return l.Listener.Accept()
}

// TestAcceptThatFailsEndsNoServer: with the metrics, logins would end.
func TestAcceptThatFailsEndsNoServer(t *testing.T) {
	broken := func(l net.Listener) net.Listener {
		f := &failing{Listener: l}
		f.left.Store(3)
		return f
	}
	address, stop, ended := served(t, broken, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	reply, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(reply.Body)
	if err := errors.Join(err, reply.Body.Close()); err != nil || string(body) != "here" {
		t.Errorf("got %q, %v", body, err)
	}
	stop()
	mustEnd(t, ended)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimSpace(" " + err.Error())
}
