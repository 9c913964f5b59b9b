package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"tokend/tokend/token"
)

// row is what *sql.Row and *sql.Rows have in common.
type row interface{ Scan(...any) error }

// querier is what *sql.DB and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// rowQuerier is what *sql.DB and *sql.Conn have in common.
type rowQuerier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// query returns all rows of the answer.
func query[T any](ctx context.Context, q querier, scan func(row) (T, error), text string, args ...any) (all []T, err error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func scanRecord(r row) (token.Record, error) { return scanRecordAnd(r) }

func scanListed(r row) (record token.Record, err error) {
	var used time.Time
	var byAPI bool
	record, err = scanRecordAnd(r, instant{&used}, &byAPI)
	record.Used, record.UsedByAPI = used, byAPI
	return record, err
}

// scanRecordAnd scans a record, and what stands behind it.
func scanRecordAnd(r row, more ...any) (record token.Record, err error) {
	var digest, scheme string
	err = r.Scan(append([]any{&record.ID, &digest, &record.Owner, &record.Hint, &record.Label,
		instant{&record.Created}, instant{&record.Expires}, instant{&record.Revoked}, &scheme, &record.API, &record.OwnerDisabled}, more...)...)
	if err != nil {
		return token.Record{}, err
	}
	if record.Digest, err = token.ParseDigest(digest); err == nil {
		record.Scheme, err = token.ParseScheme(scheme)
	}
	if err != nil {
		return token.Record{}, fmt.Errorf("token %q: %w", record.ID, err)
	}
	return record, nil
}

func scanUser(r row) (user token.User, err error) {
	return user, r.Scan(&user.Name, instant{&user.Disabled}, &user.Tokens)
}

func scanEvent(r row) (event token.Event, err error) {
	return event, r.Scan(&event.Number, instant{&event.At}, &event.Actor, &event.Action, &event.User, &event.Token, &event.Detail)
}

func scanUse(r row) (use token.Use, err error) {
	return use, r.Scan(&use.Token, instant{&use.At}, &use.API)
}

func scanDigest(r row) (token.Digest, error) {
	var text string
	if err := r.Scan(&text); err != nil {
		return token.Digest{}, err
	}
	return token.ParseDigest(text)
}

// micros is a time as the tables keep it.
func micros(t time.Time) int64 { return t.UnixMicro() }

// orNull is a time as the tables keep it, where the zero time is NULL.
func orNull(t time.Time) sql.Null[int64] {
	return sql.Null[int64]{V: t.UnixMicro(), Valid: !t.IsZero()}
}

// instant scans a time from a column, and the zero time from NULL.
type instant struct{ to *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(column any) error {
	switch v := column.(type) {
	case nil:
		*i.to = time.Time{}
	case int64:
		if *i.to = time.UnixMicro(v).UTC(); i.to.IsZero() {
			return fmt.Errorf("a time is kept as %d, which would stand for none", v)
		}
	default:
		return fmt.Errorf("a time is kept as %T, not as microseconds", column)
	}
	return nil
}
