// Package token is the domain: what a token is, how it is spelled, what is
// kept of it, and what can be wrong with it. It knows no store, no network and
// no clock of its own, and imports only the standard library.
package token

import "errors"

// NotNowError is why something could not be done now; the same may succeed later.
type NotNowError string

func (e NotNowError) Error() string { return string(e) }

// What a store or the management can say of a token or a user. Callers branch
// on these with errors.Is; the wrapping error adds which one was meant.
var (
	// ErrNotFound: no such token, or no such user.
	ErrNotFound = errors.New("not found")
	// ErrUserDisabled: the user may not log in, and gets no new token.
	ErrUserDisabled = errors.New("user is disabled")
	// ErrTooMany: the user has as many tokens as one user may have.
	ErrTooMany = errors.New("too many tokens")
	// ErrDrift: the tables of another program are not what they should be, so that nobody can
	// say what a token is good for.
	ErrDrift = errors.New("the tables are not what they should be")
	// ErrUnsure: the store did not answer to a change, which may have been made.
	ErrUnsure = errors.New("it is not known whether it was done")
)
