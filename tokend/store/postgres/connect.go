package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"tokend/tokend/store/server"
)

// CheckFiles returns what is wrong with the files that the URLs name.
func CheckFiles(cfg Config) error {
	_, err := server.Parse("[store] url", cfg.URL, nil)
	if err == nil && cfg.Direct != "" {
		_, err = server.Parse("[store] direct_url", cfg.Direct, nil)
	}
	return err
}

// lastingSession is for connections to the server itself.
func lastingSession(settings *pgxpool.Config) {
	// The server ends what nobody waits for any more, also after a daemon's death.
	settings.ConnConfig.RuntimeParams["statement_timeout"] = server.Milliseconds(otherTimeout)
	settings.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = server.Milliseconds(2 * otherTimeout)
	// And what the network has lost, which would else be there for hours. What a pooler has is the pooler's matter.
	maps.Copy(settings.ConnConfig.RuntimeParams, map[string]string{
		"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3",
		"tcp_user_timeout": "60000", // where it has said something that nobody takes
	})
	// A standby lags behind, and tells nobody of changes.
	if settings.ConnConfig.ValidateConnect == nil {
		settings.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

// anySession is for connections through a pooler, which may give each transaction to
// another session of the server: in none is there anything to come back to.
func anySession(settings *pgxpool.Config) {
	settings.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // and no named statement
}

// changing begins a transaction with what it needs of its session, in one round trip.
// It undoes a synchronous_commit=off of the server's, the database's or the user's, by
// which what was acknowledged may be lost; stronger settings stay.
var changing = pgx.TxOptions{BeginQuery: `BEGIN;
	SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
	SET LOCAL statement_timeout = ` + server.Milliseconds(otherTimeout) + `;
	SET LOCAL idle_in_transaction_session_timeout = ` + server.Milliseconds(changeSilence)}

// changeSilence is how long the server waits for the next word of a change, which has locked what others wait for:
// where the network has lost it, and others behind it, they must have time left.
const changeSilence = time.Second

// connectTimeout is for all servers of the URL, and all addresses of each, with TLS and without.
const connectTimeout = 20 * time.Second

// connect makes a connection to the server itself, beside the pools'.
func (s *Store) connect(ctx context.Context) (conn *pgx.Conn, err error) {
	settings := s.direct.Copy()
	err = server.Within(ctx, connectTimeout, func(ctx context.Context) error {
		if err := settings.BeforeConnect(ctx, settings.ConnConfig); err != nil {
			return err
		}
		conn, err = pgx.ConnectConfig(ctx, settings.ConnConfig)
		return err
	})
	switch {
	case err != nil && s.pooled:
		return nil, pastError{fmt.Errorf("past the pooler, by [store] direct_url, to %s: %w", server.Describe(settings.ConnConfig), err)}
	case err != nil:
		return nil, err
	}
	if err = refusePooler(ctx, conn); err != nil {
		return nil, errors.Join(err, hangUp(ctx, conn))
	}
	return conn, nil
}

// refusePooler makes sure that nothing stands between this end of the connection and its
// session: a pooler, whose sessions come and go, gives its clients numbers of its own.
func refusePooler(ctx context.Context, conn *pgx.Conn) error {
	return server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		var process uint32
		err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&process)
		if err == nil && process != conn.PgConn().PID() {
			err = server.ErrPooler
		}
		return err
	})
}

func hangUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), otherTimeout)
	defer cancel()
	return conn.Close(ctx)
}

const uniqueViolation = "23505"

// exists tells whether the error says that the ID or digest is taken.
func exists(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == uniqueViolation
}

// explain says what an operator can do about it, but for what says so itself.
func explain(err error) error {
	if errors.Is(err, errUnproved) || errors.Is(err, errElsewhere) {
		return err
	}
	if _, past := errors.AsType[pastError](err); past {
		return server.Explain(pastNames, err)
	}
	return server.Explain(names, err)
}

// pastError is one of a connection past the pooler.
type pastError struct{ error }

func (e pastError) Unwrap() error { return e.error }

// names are those of the configuration.
var (
	names     = server.Names{URL: "[store] url", Direct: "direct_url", Password: "[store] password_file", Connections: "[store] connections"}
	pastNames = server.Names{URL: "[store] direct_url", Password: names.Password, Connections: names.Connections}
)
