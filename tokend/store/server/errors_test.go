package server

import (
	"context"
	"errors"
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
