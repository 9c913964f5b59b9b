package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// Phase is what Import does with a row.
type Phase string

// Every Phase there is, in their order.
const (
	Copying  Phase = "copying"
	Checking Phase = "checking" // what arrived
)

// importLock is the number of the lock for those who import: "tokm". It is only tried.
const importLock = 0x746f6b6d

// patience is how long there may be nothing new. What comes behind many rows, such as
// their foreign keys, is done in one go. Tests change it.
var patience = 10 * time.Minute

var errStalled = fmt.Errorf("nothing came or went for %s: does the server hang, or the disk of the old database?", patience)

// Vacant says why nothing can be imported into the database, without changing anything
// in it, and names it. Missing tables are no reason: Open makes them.
func Vacant(ctx context.Context, cfg Config) (name string, err error) {
	s, err := dial(ctx, cfg)
	if err != nil {
		return "", err
	}
	defer s.Close() //nolint:errcheck // it says nothing
	err = s.checkURLs(ctx)
	if err == nil {
		err = s.vacant(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", s, explain(err))
	}
	return s.String(), nil
}

func (s *Store) vacant(ctx context.Context) error {
	return server.Within(ctx, 2*otherTimeout, func(ctx context.Context) error {
		known, err := newestSchema()
		if err != nil {
			return err
		}
		var standby, others, mayMake bool
		if err := s.pool.QueryRow(ctx, `SELECT pg_is_in_recovery(), coalesce(to_regclass('users'), to_regclass('tokens'), to_regclass('events'), to_regclass('cache_keys')) IS NOT NULL,
			coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`).Scan(&standby, &others, &mayMake); err != nil {
			return err
		}
		if err := checkEncoding(ctx, s.pool); err != nil {
			return err
		}
		db := s.openDirect()
		defer db.Close() //nolint:errcheck // it was only read
		version, err := version(ctx, db)
		switch {
		case err != nil:
			return err
		case standby:
			return fmt.Errorf("%w: the server is a standby; name the primary, or all of them and target_session_attrs=read-write", store.ErrUnwritable)
		case version > known:
			return &store.NewerSchemaError{Database: version, Known: known}
		case version == 0 && others:
			return errors.New("it has tables of another program: make a database for tokend alone (createdb tokend --owner tokend --encoding UTF8)")
		case version == 0 && !mayMake:
			return errors.New("its user may make no tables: make that user the database's owner (createdb --owner)")
		case version == 0:
			return nil
		}
		return checkEmpty(ctx, s.pool)
	})
}

// rowQuerier is what a pool and a transaction have in common.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// checkEncoding refuses databases that cannot hold every name and label.
func checkEncoding(ctx context.Context, q rowQuerier) error {
	var encoding string
	if err := q.QueryRow(ctx, `SELECT current_setting('server_encoding')`).Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("its encoding is %s, which does not hold every label: make one with createdb --encoding UTF8 --template template0", encoding)
	}
	return nil
}

func checkEmpty(ctx context.Context, q rowQuerier) error {
	var users, tokens, events bool
	if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM users), EXISTS (SELECT FROM tokens), EXISTS (SELECT FROM events)`).Scan(&users, &tokens, &events); err != nil {
		return err
	}
	if users || tokens || events {
		return errors.New("it has users, tokens or an audit trail already, with which others cannot be mixed: name an empty database; if this one was migrated to before, there is nothing left to do")
	}
	return nil
}

// Import copies all rows of another store into the database, which must have none, and
// reads them back. It is one transaction, which is committed only if what arrived is what
// was sent; with an error nothing has changed, but for token.ErrUnsure, where the server
// did not answer to the commit. Once that has begun, it no more ends with ctx. Step hears
// of every row; nil: nobody does.
func (s *Store) Import(ctx context.Context, rows store.Rows, step func(Phase)) (*store.Tally, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(patience, func() { cancel(errStalled) })
	defer late.Stop()
	tally, err := s.importAll(ctx, rows, func(p Phase) {
		late.Reset(patience)
		if step != nil {
			step(p)
		}
	})
	if err != nil {
		if why := context.Cause(ctx); why != nil && !errors.Is(err, token.ErrUnsure) {
			err = why
		}
		return nil, fmt.Errorf("import into %s: %w", s, explain(err))
	}
	return tally, nil
}

func (s *Store) importAll(ctx context.Context, rows store.Rows, step func(Phase)) (*store.Tally, error) {
	tx, err := s.startChange(ctx)
	if err != nil {
		return nil, err
	}
	sent, err := fillEmpty(ctx, tx, rows, step)
	if err == nil {
		err = compare(ctx, tx, sent, step)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		rollback(ctx, tx)
		return nil, err
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return sent, unsure(tx.Commit(end))
}

// fillEmpty copies everything, after it has made sure that nobody else writes. Daemons
// go on reading.
func fillEmpty(ctx context.Context, tx pgx.Tx, rows store.Rows, step func(Phase)) (*store.Tally, error) {
	var alone bool
	if err := tx.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1)`, importLock).Scan(&alone); err != nil {
		return nil, err
	}
	if !alone {
		return nil, errors.New("another migration into it is under way: wait for its end")
	}
	// A copy is one statement, and waits for what the other store reads.
	if _, err := tx.Exec(ctx, `SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)`); err != nil {
		return nil, err
	}
	if err := lockTables(ctx, tx); err != nil {
		return nil, err
	}
	if err := errors.Join(checkEncoding(ctx, tx), checkEmpty(ctx, tx)); err != nil {
		return nil, err
	}
	t := &tallied{Tally: new(store.Tally), step: func() { step(Copying) }}
	if err := t.copyAll(ctx, tx, rows); err != nil {
		return nil, err
	}
	if t.last > 0 { // setval would not be undone with the transaction
		var sequence string
		if err := tx.QueryRow(ctx, `SELECT pg_get_serial_sequence('events', 'number')`).Scan(&sequence); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, fmt.Sprintf(`ALTER SEQUENCE %s RESTART WITH %d`, sequence, t.last+1)); err != nil {
			return nil, err
		}
	}
	_, err := tx.Exec(ctx, `ANALYZE users, tokens, accounts, uses, events`) // the first logins don't wait for autovacuum
	return t.Tally, err
}

// lockTables keeps all from writing, those who would mint included. It takes no longer
// than a change of theirs.
func lockTables(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = `+server.Milliseconds(otherTimeout))
	if err == nil {
		_, err = tx.Exec(ctx, `LOCK TABLE users, tokens, accounts, uses, events IN EXCLUSIVE MODE`)
	}
	if isLocked(err) {
		return fmt.Errorf("others write to it and don't end: stop the daemons over it: %w", err)
	}
	return err
}

// compare reads back what arrived.
func compare(ctx context.Context, tx pgx.Tx, sent *store.Tally, step func(Phase)) error {
	t := &tallied{Tally: new(store.Tally), step: func() { step(Checking) }}
	if err := t.readAll(ctx, kept{tx}); err != nil {
		return fmt.Errorf("read back what arrived: %w", err)
	}
	if t.Users != sent.Users || t.Tokens != sent.Tokens || t.Events != sent.Events {
		return fmt.Errorf("what arrived is not what was sent: %d users, %d tokens and %d audit entries of %d, %d and %d; has somebody given the tables triggers or rules? If not, the server's log may say more",
			t.Users, t.Tokens, t.Events, sent.Users, sent.Tokens, sent.Events)
	}
	if t.Sum() != sent.Sum() {
		return errors.New("what arrived is not what was sent: as many rows, but not the same; has somebody given the tables triggers or rules? If not, the server's log may say more")
	}
	return nil
}

// kept is what the transaction sees.
type kept struct{ tx pgx.Tx }

var _ store.Rows = kept{}

func (k kept) Users(ctx context.Context) iter.Seq2[token.User, error] {
	return each(ctx, k.tx, scanUser, `SELECT name, disabled, 0 FROM users ORDER BY name`)
}

func (k kept) Records(ctx context.Context) iter.Seq2[token.Record, error] {
	return each(ctx, k.tx, scanRecord, `SELECT id, digest, owner, hint, label, created, expires, revoked, scheme, api, false FROM tokens ORDER BY id`)
}

func (k kept) Accounts(ctx context.Context) iter.Seq2[token.Account, error] {
	return each(ctx, k.tx, scanAccount, selectAccounts+`ORDER BY name`)
}

func (k kept) Uses(ctx context.Context) iter.Seq2[token.Use, error] {
	return each(ctx, k.tx, scanUse, `SELECT token, at, api FROM uses ORDER BY token`)
}

func (k kept) Events(ctx context.Context) iter.Seq2[token.Event, error] {
	return each(ctx, k.tx, scanEvent, `SELECT number, at, actor, action, "user", token, detail FROM events ORDER BY number`)
}

// each tells one row of the answer after the other.
func each[T any](ctx context.Context, q querier, scan pgx.RowToFunc[T], text string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		rows, err := q.Query(ctx, text)
		if err != nil {
			yield(none, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			one, err := scan(rows)
			if !yield(one, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(none, err)
		}
	}
}
