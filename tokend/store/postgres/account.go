package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const selectAccounts = `SELECT name, issuer, subject, created FROM accounts `

// Bind binds a name to who signs in, if neither is bound yet, and writes the event, whose User it fills in. The name
// becomes a user's. It returns
// the account as it is. Where one of them is bound to another, it is a token.TakenError; a disabled user is token.ErrUserDisabled.
func (s *Store) Bind(ctx context.Context, account token.Account, event token.Event) (token.Account, error) {
	event.User, event.Token = account.Name, ""
	return write(ctx, s, store.Accounts, func(ctx context.Context, tx pgx.Tx) (token.Account, error) {
		if err := store.CheckAccount(account); err != nil {
			return token.Account{}, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO users (name) VALUES ($1) ON CONFLICT DO NOTHING`, account.Name); err != nil {
			return token.Account{}, err
		}
		disabled, err := disabledSince(ctx, tx, account.Name)
		switch {
		case err != nil:
			return token.Account{}, err
		case !disabled.IsZero():
			return token.Account{}, token.ErrUserDisabled
		}
		fresh, err := affected(tx.Exec(ctx, `INSERT INTO accounts (name, issuer, subject, created) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			account.Name, account.Issuer, account.Subject, account.Created))
		if err != nil {
			return token.Account{}, err
		}
		there, err := query(ctx, tx, scanAccount, selectAccounts+`WHERE name = $1 OR issuer = $2 AND subject = $3`, account.Name, account.Issuer, account.Subject)
		if err != nil {
			return token.Account{}, err
		}
		for _, other := range there {
			if !other.Same(account) {
				return token.Account{}, token.TakenError{By: other}
			}
		}
		switch {
		case len(there) != 1:
			return token.Account{}, token.ErrChanged
		case fresh == 0:
			return there[0], nil
		}
		return there[0], insertEvent(ctx, tx, event)
	})
}

// Unbind undoes Bind, and writes the event, whose User it fills in. token.ErrNotFound: the name is bound to nobody.
func (s *Store) Unbind(ctx context.Context, name string, event token.Event) error {
	event.User, event.Token = name, ""
	_, err := write(ctx, s, store.Accounts, func(ctx context.Context, tx pgx.Tx) (none, error) {
		n, err := affected(tx.Exec(ctx, `DELETE FROM accounts WHERE name = $1`, name))
		switch {
		case err != nil:
			return none{}, err
		case n == 0:
			return none{}, token.ErrNotFound
		}
		return none{}, insertEvent(ctx, tx, event)
	})
	return err
}

// AccountOf returns the account of who signs in, or token.ErrNotFound.
func (s *Store) AccountOf(ctx context.Context, issuer, subject string) (token.Account, error) {
	return s.account(ctx, `WHERE issuer = $1 AND subject = $2`, issuer, subject)
}

// Account returns the account of that name, or token.ErrNotFound.
func (s *Store) Account(ctx context.Context, name string) (token.Account, error) {
	return s.account(ctx, `WHERE name = $1`, name)
}

func (s *Store) account(ctx context.Context, where string, args ...any) (token.Account, error) {
	return read(ctx, s, store.Accounts, func(ctx context.Context) (token.Account, error) {
		return one(ctx, s.pool, scanAccount, selectAccounts+where, args...)
	})
}

func scanAccount(r pgx.CollectableRow) (a token.Account, err error) {
	return a, r.Scan(&a.Name, &a.Issuer, &a.Subject, (*instant)(&a.Created))
}
