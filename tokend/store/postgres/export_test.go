package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
)

// Setting is what holds for a change.
func (s *Store) Setting(ctx context.Context, name string) (string, error) {
	return write(ctx, s, store.Mint, func(ctx context.Context, tx pgx.Tx) (value string, err error) {
		return value, tx.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	})
}

// SessionSettings is what holds for each kind of connection before anything is begun on it.
func (s *Store) SessionSettings(ctx context.Context, name string) (logins, changes, watch string, err error) {
	const setting = `SELECT current_setting($1)`
	conn, err := s.connect(ctx)
	if err != nil {
		return "", "", "", err
	}
	return logins, changes, watch, errors.Join(
		s.logins.QueryRow(ctx, setting, name).Scan(&logins),
		s.pool.QueryRow(ctx, setting, name).Scan(&changes),
		conn.QueryRow(ctx, setting, name).Scan(&watch),
		hangUp(ctx, conn),
	)
}

// UpgradeSetting is what holds for an upgrade of the schema.
func (s *Store) UpgradeSetting(ctx context.Context, name string) (value string, err error) {
	db := s.openDirect()
	err = db.QueryRowContext(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	return value, errors.Join(err, db.Close())
}

// PreparedForLogins is how often the server has run what it has prepared on a connection
// for logins that looks tokens up.
func (s *Store) PreparedForLogins(ctx context.Context) (runs int, err error) {
	return runs, s.logins.QueryRow(ctx, `SELECT coalesce(sum(generic_plans + custom_plans), 0) FROM pg_prepared_statements WHERE statement = $1`, lookupByDigest).Scan(&runs)
}

// ChangesInUse is how many connections for changes are.
func (s *Store) ChangesInUse() int32 { return s.pool.Stat().AcquiredConns() }

// SpareIdle is how many spare connections wait to be used.
func (s *Store) SpareIdle() int32 { return s.spare.Stat().IdleConns() }

// ChangesMade is how many connections were made for changes.
func (s *Store) ChangesMade() int64 { return s.pool.Stat().NewConnsCount() }

// Unsure marks the error of a commit.
var Unsure = unsure

// ErrElsewhere is what is said where the lock is free that is held past the pooler.
var ErrElsewhere = errElsewhere

// ErrUnproved is what is said of a change where nothing can tell where the pooler leads.
var ErrUnproved = errUnproved

// LateChange is what is said of a change that ends with that error when its time is up.
func (s *Store) LateChange(ctx context.Context, why error) error {
	_, err := do(ctx, s, store.Mint, func(ctx context.Context) (none, error) {
		<-ctx.Done()
		return none{}, why
	})
	return err
}

// Unproved is what is said of a change where that is why nothing can tell.
func Unproved(why error) error { return explain(unproved(why)) }

// ProveLookUp has a lock tried that is held past the pooler.
func (s *Store) ProveLookUp(ctx context.Context, try func(context.Context, int64) (free bool, err error)) (proved bool, err error) {
	return s.prove(ctx, &waiting{provedWithin}, try)
}

// ProveChange does so for a change.
func (s *Store) ProveChange(ctx context.Context, try func(context.Context, int64) (free bool, err error)) (proved bool, err error) {
	return s.prove(ctx, thorough, try)
}

// Database is its name.
func (s *Store) Database() string { return s.pool.Config().ConnConfig.Database }

// PastIdle is how many connections past the pooler wait to be used.
func (s *Store) PastIdle() int32 { return s.past.Stat().IdleConns() }

// Mark is the number of the lock that is held by whoever Watches.
func (s *Store) Mark() int64 { return s.mark.Load().lock }

// Broken tells whether the error is of a connection that was there, so that another may do.
func Broken(err error) bool { return server.Broken(err) }

// SetSince is as if Watch had begun then.
func (s *Store) SetSince(at time.Time) { s.since.Store(&at) }

// SetPatience changes how long an import waits for an answer, until undo is called.
func SetPatience(d time.Duration) (undo func()) {
	before := patience
	patience = d
	return func() { patience = before }
}

// SetMark is as if a session had come that holds a mark since then.
func (s *Store) SetMark(since time.Time) { s.mark.Store(&mark{lock: 1, held: since}) }

// SetAsked is as if whoever Watches had been answered then.
func (s *Store) SetAsked(at time.Time) { s.asked.Store(&at) }

// NoMark is as if that session had ended.
func (s *Store) NoMark() { s.mark.Store(nil) }

// Outlives returns what tells whether the session that is there now answers after then.
func (s *Store) Outlives(ctx context.Context) func(then time.Time) bool {
	m := s.mark.Load()
	return func(then time.Time) bool { return s.outlived(ctx, m, then) }
}

// SetUpgradePatience changes how long an upgrade waits for a table, until undo is called.
func SetUpgradePatience(d time.Duration) (undo func()) {
	before := upgradePatience
	upgradePatience = d
	return func() { upgradePatience = before }
}
