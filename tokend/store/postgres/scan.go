package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"tokend/tokend/token"
)

// querier is what a pool and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// query returns all rows of the answer.
func query[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], text string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

func scanRecord(r pgx.CollectableRow) (token.Record, error) { return scanRecordAnd(r) }

func scanListed(r pgx.CollectableRow) (record token.Record, err error) {
	var used instant
	var byAPI bool
	record, err = scanRecordAnd(r, &used, &byAPI)
	record.Used, record.UsedByAPI = time.Time(used), byAPI
	return record, err
}

// scanRecordAnd scans a record, and what stands behind it.
func scanRecordAnd(r pgx.CollectableRow, more ...any) (record token.Record, err error) {
	var digest []byte
	var scheme string
	err = r.Scan(append([]any{&record.ID, &digest, &record.Owner, &record.Hint, &record.Label,
		(*instant)(&record.Created), (*instant)(&record.Expires), (*instant)(&record.Revoked), &scheme, &record.API, &record.OwnerDisabled}, more...)...)
	if err == nil {
		record.Digest, err = asDigest(digest)
	}
	if err == nil {
		record.Scheme, err = token.ParseScheme(scheme)
	}
	if err != nil {
		return token.Record{}, fmt.Errorf("token %q: %w", record.ID, err)
	}
	return record, nil
}

func scanUser(r pgx.CollectableRow) (user token.User, err error) {
	return user, r.Scan(&user.Name, (*instant)(&user.Disabled), &user.Tokens)
}

func scanEvent(r pgx.CollectableRow) (event token.Event, err error) {
	return event, r.Scan(&event.Number, (*instant)(&event.At), &event.Actor, &event.Action, &event.User, &event.Token, &event.Detail)
}

func scanUse(r pgx.CollectableRow) (use token.Use, err error) {
	return use, r.Scan(&use.Token, (*instant)(&use.At), &use.API)
}

func scanDigest(r pgx.CollectableRow) (token.Digest, error) {
	var digest []byte
	if err := r.Scan(&digest); err != nil {
		return token.Digest{}, err
	}
	return asDigest(digest)
}

func asDigest(b []byte) (d token.Digest, err error) {
	if len(b) != len(d) {
		return d, errors.New("a digest in the table has another length")
	}
	return token.Digest(b), nil
}

var negativeInfinity = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}

// orNull is a time as the tables keep it, where the zero time is NULL.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// instant scans a time from a column, and the zero time from NULL.
type instant time.Time

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (i *instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	if v.InfinityModifier != pgtype.Finite {
		return errors.New("a time in the table is infinite")
	}
	*i = instant(time.Time{})
	if !v.Valid {
		return nil
	}
	if v.Time.IsZero() {
		return errors.New("a time in the table is the first of the year 1, which would stand for none")
	}
	*i = instant(v.Time.UTC())
	return nil
}
