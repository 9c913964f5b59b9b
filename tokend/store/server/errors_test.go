package server

import (
	"context"
	"crypto/tls"
	"errors"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestWhatIsARefusal: a server answers, and gives no connection, or not the one that is wanted.
func TestWhatIsARefusal(t *testing.T) {
	t.Parallel()
	_, unmade := pgconn.Connect(t.Context(), "postgres://tokend@127.0.0.1:1/d")
	full := &pgconn.PgError{Severity: "FATAL", Code: "53300"}
	for _, c := range []struct {
		err     error
		refused bool
	}{
		{nil, false},
		{unmade, false},
		{full, false}, // said on a connection that there is
		{context.DeadlineExceeded, false},
		{pgconn.ErrStandbyConnection, false},
		{errors.Join(unmade, full), true},
		{errors.Join(unmade, pgconn.ErrStandbyConnection), true},
		{errors.Join(unmade, pgconn.ErrReadOnlyConnection), true},
		{errors.Join(unmade, context.DeadlineExceeded), false},
	} {
		if got := Refused(c.err); got != c.refused {
			t.Errorf("%v: got %t", c.err, got)
		}
	}
}

// TestWhoHangsUpOnACertificateMayNotBelieveIt: what the server says of that is lost where it closes before it is read.
func TestWhoHangsUpOnACertificateMayNotBelieveIt(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "postgres://tokend@127.0.0.1:1/d")
	unmade, ok := errors.AsType[*pgconn.ConnectError](err)
	if !ok {
		t.Fatal(err)
	}
	own := &tls.Config{Certificates: make([]tls.Certificate, 1)} //nolint:gosec // nothing is sent
	for what, c := range map[string]struct {
		tls  *tls.Config
		err  error
		want bool
	}{
		"a certificate":   {own, syscall.ECONNRESET, true},
		"after the end":   {own, syscall.EPIPE, true},
		"nobody is there": {own, nil, false},
		"none of our own": {new(tls.Config), syscall.ECONNRESET, false},
		"without TLS":     {nil, syscall.ECONNRESET, false},
	} {
		unmade.Config.TLSConfig = c.tls
		if got := ofTLS(errors.Join(unmade, c.err)); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}
