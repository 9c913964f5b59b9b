package postgres

import (
	"context"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// Check reads all rows and says which is the first that the database could not keep as
// it is. Step hears of every row; nil: nobody does.
func Check(ctx context.Context, rows store.Rows, step func()) (*store.Tally, error) {
	t := &tallied{Tally: new(store.Tally), step: step}
	if step == nil {
		t.step = func() {}
	}
	return t.Tally, t.readAll(ctx, rows)
}

// tallied counts the rows that pass, and stops at one that cannot be kept.
type tallied struct {
	*store.Tally
	step func()
	last int64 // number of an event
}

func (t *tallied) readAll(ctx context.Context, rows store.Rows) error {
	err := drain(rows.Users(ctx), t.user)
	if err == nil {
		err = drain(rows.Records(ctx), t.record)
	}
	if err == nil {
		err = drain(rows.Accounts(ctx), t.account)
	}
	if err == nil {
		err = drain(rows.Uses(ctx), t.use)
	}
	if err == nil {
		err = drain(rows.Events(ctx), t.event)
	}
	return err
}

func drain[T any](all iter.Seq2[T, error], pass func(T) ([]any, error)) error {
	for one, err := range all {
		if err == nil {
			_, err = pass(one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tallied) copyAll(ctx context.Context, tx pgx.Tx, rows store.Rows) error {
	err := copyInto(ctx, tx, "users", []string{"name", "disabled"}, rows.Users(ctx), t.user)
	if err == nil {
		err = copyInto(ctx, tx, "tokens", []string{"digest", "id", "owner", "hint", "label", "created", "expires", "revoked", "scheme", "api"}, rows.Records(ctx), t.record)
	}
	if err == nil {
		err = copyInto(ctx, tx, "accounts", []string{"name", "issuer", "subject", "created"}, rows.Accounts(ctx), t.account)
	}
	if err == nil {
		err = copyInto(ctx, tx, "uses", []string{"token", "at", "api"}, rows.Uses(ctx), t.use)
	}
	if err == nil {
		err = copyInto(ctx, tx, "events", []string{"number", "at", "actor", "action", "user", "token", "detail"}, rows.Events(ctx), t.event)
	}
	return err
}

// copyInto streams rows into a table; pass makes columns of one.
func copyInto[T any](ctx context.Context, tx pgx.Tx, table string, columns []string, all iter.Seq2[T, error], pass func(T) ([]any, error)) error {
	next, stop := iter.Pull2(all)
	defer stop()
	var why error // the server's own words of it are fewer
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		one, err, more := next()
		if !more {
			return nil, nil
		}
		var row []any
		if err == nil {
			row, err = pass(one)
		}
		why = err
		return row, err
	}))
	if why != nil {
		return why
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", table, err)
	}
	return nil
}

func (t *tallied) user(u token.User) ([]any, error) {
	t.step()
	t.User(u)
	return []any{u.Name, orNull(u.Disabled)}, keepable(fmt.Sprintf("user %q", u.Name), texts{"name": u.Name}, u.Disabled)
}

func (t *tallied) record(r token.Record) ([]any, error) {
	t.step()
	t.Record(r)
	what := fmt.Sprintf("token %q", r.ID)
	if err := store.CheckRecord(r); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return []any{r.Digest[:], r.ID, r.Owner, r.Hint, r.Label, r.Created, orNull(r.Expires), orNull(r.Revoked), string(r.Scheme), r.API},
		keepable(what, texts{"ID": r.ID, "owner": r.Owner, "hint": r.Hint, "label": r.Label}, r.Created, r.Expires, r.Revoked)
}

func (t *tallied) account(a token.Account) ([]any, error) {
	t.step()
	t.Account(a)
	return []any{a.Name, a.Issuer, a.Subject, a.Created},
		keepable(fmt.Sprintf("account %q", a.Name), texts{"issuer": a.Issuer, "subject": a.Subject}, a.Created)
}

func (t *tallied) use(u token.Use) ([]any, error) {
	t.step()
	t.Use(u)
	return []any{u.Token, u.At, u.API}, keepable(fmt.Sprintf("the last use of token %q", u.Token), nil, u.At)
}

func (t *tallied) event(e token.Event) ([]any, error) {
	t.step()
	t.Event(e)
	what := fmt.Sprintf("audit entry %d", e.Number)
	if e.Number <= t.last || e.Number > math.MaxInt64/2 { // none could come before the first, or after the last
		return nil, fmt.Errorf("%s: its number has no place behind %d", what, t.last)
	}
	t.last = e.Number
	return []any{e.Number, e.At, e.Actor, string(e.Action), e.User, e.Token, e.Detail},
		keepable(what, texts{"actor": e.Actor, "action": string(e.Action), "user": e.User, "token": e.Token, "detail": e.Detail}, e.At)
}

type texts map[string]string

// keepable refuses what PostgreSQL would refuse without saying of which row, or cut.
func keepable(what string, fields texts, times ...time.Time) error {
	for name, text := range fields {
		switch {
		case !utf8.ValidString(text):
			return fmt.Errorf("%s: its %s is not valid UTF-8, which PostgreSQL does not keep: change it in the old database, and migrate again", what, name)
		case strings.Contains(text, "\x00"):
			return fmt.Errorf("%s: its %s has a NUL in it, which PostgreSQL does not keep: change it in the old database, and migrate again", what, name)
		}
	}
	const first, last = -4712, 294275 // the years that PostgreSQL keeps whole
	for _, at := range times {
		if year := at.Year(); year < first || year > last || !at.Equal(token.Time(at)) {
			return fmt.Errorf("%s: its time %s is not one that PostgreSQL keeps, of the years %d to %d and in whole microseconds: change it in the old database, and migrate again", what, at, first, last)
		}
	}
	return nil
}
