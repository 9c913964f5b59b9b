package postgres

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/store"
)

// SQLSTATEs, as PostgreSQL's documentation lists them in appendix A.
const (
	uniqueViolation  = "23505"
	readOnly         = "25006"
	diskFull         = "53100"
	noTable          = "42P01"
	noRights         = "42501"
	tooManyConnected = "53300"
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
)

// explain puts before an error of the server what an operator can do about it. An error
// of another kind it returns as it is.
func explain(err error) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case readOnly:
		return fmt.Errorf("%w: the server takes no changes, because it is a standby or read-only; name the primary in [store] url (target_session_attrs=read-write finds it among several): %w", store.ErrUnwritable, err)
	case diskFull:
		return fmt.Errorf("%w: the server's disk is full; free some space: %w", store.ErrUnwritable, err)
	case noTable:
		return fmt.Errorf("a table is missing; start tokend again to make it, or restore a backup: %w", err)
	case noRights:
		return fmt.Errorf("the database's user lacks rights; make it the owner of tokend's tables: %w", err)
	case tooManyConnected:
		return fmt.Errorf("the server has no connection left; lower [store] connections, or raise its max_connections: %w", err)
	}
	return err
}

// broken tells whether the error is of a connection that the server has ended, so that
// another may do.
func broken(err error) bool {
	if e, answered := errors.AsType[*pgconn.PgError](err); answered {
		return e.Code == adminShutdown || e.Code == crashShutdown
	}
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	return err != nil && !refused &&
		(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
			errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET))
}

// exists tells whether the error says that the ID or digest is taken.
func exists(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == uniqueViolation
}
