package knox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// Count returns how many tokens there are, of these users (none: of all).
func (s *Store) Count(ctx context.Context, users []string) (n int64, err error) {
	f := s.found.Load()
	if f.err != nil {
		return 0, f.err
	}
	once := false
	err = server.Within(ctx, rowTimeout, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `SELECT pg_catalog.count(*) FILTER (WHERE (pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.=) 0 OR owner::pg_catalog.text OPERATOR(pg_catalog.=) ANY($1)) AND digest IS NOT NULL),
			pg_catalog.count(digest) OPERATOR(pg_catalog.=) pg_catalog.count(DISTINCT digest)
			FROM (`+f.all+`) AS a (digest, token_key, expiry, owner, active, label, created)`, some(users)).Scan(&n, &once)
	})
	if err != nil {
		return 0, fmt.Errorf("count the tokens in %s: %w", s, s.explain(err))
	}
	if !once {
		return 0, fmt.Errorf("count the tokens in %s: %w", s, errTwice)
	}
	return n, nil
}

// All tells every token of these users (none: of all), in the order of the owners, with its label and when
// it was made as far as the role may read that: without, the label is empty and the time zero. One that
// is none of Knox's has no digest.
func (s *Store) All(ctx context.Context, users []string) iter.Seq2[token.Record, error] {
	return func(yield func(token.Record, error) bool) {
		if err := s.all(ctx, users, func(r token.Record) bool { return yield(r, nil) }); err != nil && !errors.Is(err, errEnough) {
			yield(token.Record{}, fmt.Errorf("read the tokens in %s: %w", s, s.explain(err)))
		}
	}
}

// rowTimeout is how long the next row may take.
var rowTimeout = time.Minute

var errSilent = errors.New("the database has said nothing for a minute; does it hang, or has the way to it broken? Try again when it answers")

var errEnough = errors.New("nobody wants more")

func (s *Store) all(ctx context.Context, users []string, yield func(token.Record) bool) error {
	f := s.found.Load()
	if f.err != nil {
		return f.err
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	waiting := time.AfterFunc(rowTimeout, func() { end(errSilent) })
	defer waiting.Stop()
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return unlessSilent(ctx, err)
	}
	defer func() { // nothing was changed
		_ = server.Within(context.WithoutCancel(ctx), lookupTimeout, tx.Rollback)
	}()
	// It is one statement, which waits for what becomes of its rows.
	if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
		return unlessSilent(ctx, err)
	}
	rows, err := tx.Query(ctx, `SELECT * FROM (`+f.all+`) AS a (digest, token_key, expiry, owner, active, label, created)
		WHERE (pg_catalog.cardinality($1::pg_catalog.text[]) OPERATOR(pg_catalog.=) 0 OR owner::pg_catalog.text OPERATOR(pg_catalog.=) ANY($1)) AND digest IS NOT NULL ORDER BY owner, digest`, some(users))
	if err != nil {
		return unlessSilent(ctx, err)
	}
	r := row{tables: f.tables}
	var label string
	var created pgtype.Timestamptz
	_, err = pgx.ForEachRow(rows, append(r.columns(), &label, &created), func() error {
		waiting.Stop() // who takes it may take their time
		record, err := r.record()
		if err != nil {
			record = token.Record{Owner: r.owner, Hint: hint(r.key)} // one more is no reason to leave out all others
		}
		record.Label = label
		if y := created.Time.UTC().Year(); created.Valid && created.InfinityModifier == pgtype.Finite && y >= 1 && y <= 9999 { // JSON has no others
			record.Created = token.Time(created.Time)
		}
		if !yield(record) {
			end(errEnough) // or all others would be read
			return errEnough
		}
		waiting.Reset(rowTimeout)
		return nil
	})
	return unlessSilent(ctx, err)
}

// unlessSilent is the error, but for one that comes of giving up on a silent database.
func unlessSilent(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// some is the list that SQL takes for all where it is empty.
func some(users []string) []string {
	if users == nil {
		return []string{}
	}
	return users
}

// Readable reports whether labels, and when each token was made, can be read. Grant is the statement by which
// more of that could be; empty: there is no more.
func (s *Store) Readable() (labels, created bool, grant string) {
	f := s.found.Load()
	if f.err != nil {
		return false, false, ""
	}
	return f.labelled, f.dated, f.grant
}
