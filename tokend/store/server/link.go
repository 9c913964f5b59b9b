package server

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// farewell is how long a connection that is given up may take to end, once the server has been asked to give
	// up, too, for which it has ConnectTimeout. Until then it is one of those that the pool may have.
	farewell = time.Second
	// shortly is how long one of several servers is tried that was silent not longer than silentFor ago: a
	// look-up has no time for more.
	shortly   = 250 * time.Millisecond
	silentFor = 10 * time.Second
)

// newDialer returns one for the servers of the URL.
func newDialer(c *pgx.ConnConfig) *dialer {
	// Each host may be there twice, with TLS and without.
	several := slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != c.Host || f.Port != c.Port })
	return &dialer{several: several, silent: map[string]time.Time{}}
}

// dialer makes connections.
type dialer struct {
	several bool // whether there are several servers
	mu      sync.Mutex
	silent  map[string]time.Time // by address, since when
}

// dial makes one that ends soon: the driver waits for 15 seconds for the server's own end of one that was
// given up, though that may never come.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	patience := d.patience(address)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		d.note(address, patience, ctx.Err() != nil)
		return nil, err
	}
	// Also one that only asks for the end of another has its time.
	return &link{Conn: conn, note: func(silent bool) { d.note(address, patience, silent) }}, conn.SetDeadline(time.Now().Add(patience))
}

// patience is how long the server is tried. Of one that was silent, one finds out for all whether it still is.
func (d *dialer) patience(address string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, was := d.silent[address]
	if was && time.Since(since) < silentFor {
		return shortly
	}
	if was {
		d.silent[address] = time.Now()
	}
	return ConnectTimeout
}

// note notes whether the server was silent, though it was tried for long, or was not.
func (d *dialer) note(address string, patience time.Duration, silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !silent:
		delete(d.silent, address)
	case d.several && patience == ConnectTimeout:
		d.silent[address] = time.Now()
	}
}

// established takes the time away that a connection has before it is one: who asks something has a deadline of
// their own.
func established(_ context.Context, conn *pgconn.PgConn) error {
	return conn.Conn().SetDeadline(time.Time{})
}

// link is a connection whose end is near whenever somebody sets one.
type link struct {
	net.Conn
	note        func(silent bool) // is told whether anything comes before it is established
	established atomic.Bool
}

func (l *link) SetDeadline(at time.Time) error {
	if at.IsZero() && l.established.CompareAndSwap(false, true) {
		l.note(false)
	}
	if soon := time.Now().Add(farewell); at.After(soon) {
		at = soon
	}
	return l.Conn.SetDeadline(at)
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) && !l.established.Load() {
		l.established.Store(true) // it never will be, and that is said once
		l.note(true)
	}
	return n, err
}
