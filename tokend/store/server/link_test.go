package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestAConnectionThatIsNotEstablishedHasItsTime, such as one that only asks for the end of another, and one that
// is given up has less. What is established waits for who asks.
func TestAConnectionThatIsNotEstablishedHasItsTime(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for what, c := range map[string]struct {
		then time.Time // the end that is set; zero: none
		set  bool
		ends time.Duration
	}{
		"new":         {ends: ConnectTimeout},
		"given up":    {then: time.Now().Add(15 * time.Second), set: true, ends: farewell},
		"in use":      {set: true},
		"asked of it": {then: time.Now().Add(300 * time.Millisecond), set: true, ends: 300 * time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			conn, err := newDialer().dial(t.Context(), "tcp", silent.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if c.set {
				if err := conn.SetDeadline(c.then); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				ended <- err
			}()
			select {
			case err := <-ended:
				if c.ends == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("it ends: %v", err)
				}
			case <-time.After(c.ends + 3*time.Second):
				if c.ends > 0 {
					t.Error("it does not end")
				}
			}
			conn.Close()
		})
	}
}

// TestAServerThatIsNotWantedAnyMoreIsNoneToGoBy, such as a primary that has become a standby: over TLS, too.
func TestAServerThatIsNotWantedAnyMoreIsNoneToGoBy(t *testing.T) {
	t.Parallel()
	refused := errors.New("it is a standby")
	for _, overTLS := range []bool{false, true} {
		for is, want := range map[error]state{refused: unknown, nil: answers} {
			settings, err := Parse("[store] url", "postgres:///d", nil)
			check(t, err)
			settings.ConnConfig.ValidateConnect = func(context.Context, *pgconn.PgConn) error { return is }
			check(t, settings.BeforeConnect(t.Context(), settings.ConnConfig))
			noted := answers
			var l net.Conn = &link{note: func(s state) { noted = s }}
			if overTLS {
				l = tls.Client(l, &tls.Config{InsecureSkipVerify: true})
			}
			conn, err := pgconn.Construct(&pgconn.HijackedConn{Conn: l, Config: &settings.ConnConfig.Config})
			check(t, err)
			if err := settings.ConnConfig.ValidateConnect(t.Context(), conn); !errors.Is(err, is) || noted != want {
				t.Errorf("TLS %t, %v: it is %d, %v", overTLS, is, noted, err)
			}
		}
	}
}
