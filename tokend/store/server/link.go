package server

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// farewell is how long a connection that is given up may take to end, once the server has been asked to give
// up, too, for which it has ConnectTimeout. Until then it is one of those that the pool may have.
const farewell = time.Second

// dialer makes connections that end soon: the driver waits for 15 seconds for the server's own end of
// one that was given up, though that may never come.
func dialer() pgconn.DialFunc {
	d := net.Dialer{Timeout: ConnectTimeout}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		// Also one that only asks for the end of another has its time.
		return link{conn}, conn.SetDeadline(time.Now().Add(ConnectTimeout))
	}
}

// established takes that time away: who asks something has a deadline of their own.
func established(_ context.Context, conn *pgconn.PgConn) error {
	return conn.Conn().SetDeadline(time.Time{})
}

// link is a connection whose end is near whenever somebody sets one.
type link struct{ net.Conn }

func (l link) SetDeadline(at time.Time) error {
	if soon := time.Now().Add(farewell); at.After(soon) {
		at = soon
	}
	return l.Conn.SetDeadline(at)
}
