package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/activation"

	"tokend/tokend/socket"
	"tokend/tokend/web"
)

// How long requests under way may take when the daemon ends. Nobody is to hold it up
// who may only read the metrics.
const (
	drainTimeout        = 5 * time.Second
	metricsDrainTimeout = 100 * time.Millisecond
)

// inherited returns the listeners that systemd passed, by path. One that is for
// neither socket is an error.
func inherited(auth, admin string) (map[string]*socket.Listener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over the sockets of systemd: %w", err)
	}
	byPath := map[string]*socket.Listener{}
	for _, l := range listeners {
		u, ok := l.(*net.UnixListener)
		if !ok {
			return nil, errors.New("systemd passed a socket that is no Unix stream socket: see ListenStream= in its socket unit")
		}
		path := u.Addr().String()
		if path != auth && path != admin {
			return nil, fmt.Errorf("systemd passed the socket %s, which is neither [auth] socket (%s) nor [admin] socket (%s)", path, auth, admin)
		}
		if byPath[path], err = socket.Adopt(u); err != nil {
			return nil, fmt.Errorf("take over a socket of systemd: %w", err)
		}
	}
	return byPath, nil
}

type peerKey struct{}

// withPeer names the caller of an admin request, also in the words of the audit
// trail.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*socket.Conn)
	if !ok {
		return ctx
	}
	return web.WithActor(context.WithValue(ctx, peerKey{}, c.Peer), c.Peer.String())
}

// stillPeers hangs up on requests of who was a peer when the connection was made
// and is none now.
func stillPeers(guard *socket.Guard, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, ok := r.Context().Value(peerKey{}).(socket.Peer); !ok || !guard.Allow(peer) {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP serves until ctx ends, then lets the requests under way end within the
// given time. With may add to the context of a connection's requests; nil adds
// nothing. Once: each connection is for one request.
func (n *node) serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, end time.Duration, with func(context.Context, net.Conn) context.Context, once bool) error {
	server := &http.Server{
		Handler:           handler,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 5 * time.Second,  // also of one that says nothing
		ReadTimeout:       10 * time.Second, // also of one that says nothing more
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       with,
	}
	server.SetKeepAlivesEnabled(!once)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(socket.Patient(listener, n.log)) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), end)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("end %s: %w", listener.Addr(), err)
	}
	// What is still open had its time: that is no error.
	if err := server.Close(); err != nil {
		return fmt.Errorf("close %s: %w", listener.Addr(), err)
	}
	return nil
}
