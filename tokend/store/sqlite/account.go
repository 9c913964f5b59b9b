package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

const selectAccounts = `SELECT name, issuer, subject, created FROM accounts `

// Bind binds a name to who signs in, if neither is bound yet, and writes the event, whose User it fills in. The name
// becomes a user's. It returns
// the account as it is. Where one of them is bound to another, it is a token.TakenError; a disabled user is token.ErrUserDisabled.
func (s *Store) Bind(ctx context.Context, account token.Account, event token.Event) (token.Account, error) {
	event.User, event.Token = account.Name, ""
	return write(ctx, s, store.Accounts, func(ctx context.Context, tx *sql.Tx) (token.Account, error) {
		if err := store.CheckAccount(account); err != nil {
			return token.Account{}, err
		}
		disabled, err := disabledSince(ctx, tx, account.Name)
		if errors.Is(err, token.ErrNotFound) {
			_, err = tx.ExecContext(ctx, `INSERT INTO users (name) VALUES (?)`, account.Name)
		}
		switch {
		case err != nil:
			return token.Account{}, err
		case !disabled.IsZero():
			return token.Account{}, token.ErrUserDisabled
		}
		there, err := query(ctx, tx, scanAccount, selectAccounts+`WHERE name = ? OR issuer = ? AND subject = ?`, account.Name, account.Issuer, account.Subject)
		if err != nil {
			return token.Account{}, err
		}
		for _, other := range there {
			if !other.Same(account) {
				return token.Account{}, token.TakenError{By: other}
			}
		}
		if len(there) > 0 {
			return there[0], nil
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO accounts (name, issuer, subject, created) VALUES (?, ?, ?, ?)`,
			account.Name, account.Issuer, account.Subject, micros(account.Created)); err != nil {
			return token.Account{}, err
		}
		return account, insertEvent(ctx, tx, event)
	})
}

// Unbind undoes Bind, and writes the event, whose User it fills in. token.ErrNotFound: the name is bound to nobody.
func (s *Store) Unbind(ctx context.Context, name string, event token.Event) error {
	event.User, event.Token = name, ""
	_, err := write(ctx, s, store.Accounts, func(ctx context.Context, tx *sql.Tx) (any, error) {
		n, err := affected(tx.ExecContext(ctx, `DELETE FROM accounts WHERE name = ?`, name))
		switch {
		case err != nil:
			return nil, err
		case n == 0:
			return nil, token.ErrNotFound
		}
		return nil, insertEvent(ctx, tx, event)
	})
	return err
}

// AccountOf returns the account of who signs in, or token.ErrNotFound.
func (s *Store) AccountOf(ctx context.Context, issuer, subject string) (token.Account, error) {
	return s.account(ctx, `WHERE issuer = ? AND subject = ?`, issuer, subject)
}

// Account returns the account of that name, or token.ErrNotFound.
func (s *Store) Account(ctx context.Context, name string) (token.Account, error) {
	return s.account(ctx, `WHERE name = ?`, name)
}

func (s *Store) account(ctx context.Context, where string, args ...any) (token.Account, error) {
	return do(ctx, s, store.Accounts, func(ctx context.Context) (token.Account, error) {
		return orNotFound(scanAccount(s.readers.QueryRowContext(ctx, selectAccounts+where, args...)))
	})
}

func scanAccount(r row) (a token.Account, err error) {
	return a, r.Scan(&a.Name, &a.Issuer, &a.Subject, instant{&a.Created})
}
