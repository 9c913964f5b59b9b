package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// farewell is how long a connection that is given up may take to end, once the server has been asked to give
// up, too, for which it has ConnectTimeout. Until then it is one of those that the pool may have.
const farewell = time.Second

// established takes the time away that a connection has before it is one: who asks something has a deadline of
// their own.
func established(_ context.Context, conn *pgconn.PgConn) error {
	return conn.Conn().SetDeadline(time.Time{})
}

// validated is the check whether the connection leads to a server that is wanted, such as a primary, which may
// have been one before.
func validated(is pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, conn *pgconn.PgConn) error {
		err := is(ctx, conn)
		if l := linkOf(conn.Conn()); err != nil && l != nil {
			l.note(unknown)
		}
		return err
	}
}

func linkOf(conn net.Conn) *link {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	l, _ := conn.(*link)
	return l
}

// link is a connection whose end is near whenever somebody sets one.
type link struct {
	net.Conn
	note        func(state) // is told how the server is, once
	established atomic.Bool
}

func (l *link) SetDeadline(at time.Time) error {
	if at.IsZero() && l.established.CompareAndSwap(false, true) {
		l.note(answers)
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
		l.note(silent)
	}
	return n, err
}
