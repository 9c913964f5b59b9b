// Package store holds what the stores below it share: what they measure, what
// they refuse, and the errors of their own. Each store is a package beneath;
// storetest says what all of them promise.
package store

import (
	"errors"
	"fmt"
	"time"

	"tokend/tokend/token"
)

var (
	// ErrExists says that a token with this ID or this digest is kept already.
	ErrExists = errors.New("a token with this ID or digest exists already")
	// ErrUnwritable says that nothing can be written just now, because the disk is
	// full, failing or read-only, or rights are missing. Look-ups go on.
	ErrUnwritable error = token.NotNowError("the store cannot be written")
	// ErrLocked says that another tokend has the store open, which serves only one.
	ErrLocked = errors.New("another tokend uses it")
)

// NewerSchemaError refuses a database that a newer tokend has written.
type NewerSchemaError struct {
	Database int64 // the version that the database has
	Known    int64 // the newest version that this program knows
}

// Error says which versions met, and the two ways out.
func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the database has schema version %d, this tokend knows up to %d: "+
		"run the newer tokend, or restore the backup made before the upgrade", e.Database, e.Known)
}

// CheckRecord refuses to keep a record that could not be found again: one
// without ID, digest, owner or time of creation.
func CheckRecord(r token.Record) error {
	switch {
	case r.ID == "":
		return errors.New("the record has no ID")
	case r.Digest == token.Digest{}:
		return errors.New("the record has no digest")
	case r.Owner == "":
		return errors.New("the record has no owner")
	case r.Created.IsZero():
		return errors.New("the record has no time of creation")
	}
	return nil
}

// RevokedAtOnce is how many tokens one change revokes at most of those that were created before a time.
const RevokedAtOnce = 1000

// CheckSelection refuses a selection in which not exactly one field is set, but for Owner beside Before.
func CheckSelection(s token.Selection) error {
	set := 0
	for _, is := range []bool{s.ID != "", s.Owner != "" && s.Before.IsZero(), s.Digest != token.Digest{}, !s.Before.IsZero()} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("a selection names an ID, an owner, a digest or a time, exactly one of them; this one names %d", set)
	}
	return nil
}

// CheckTime refuses the zero time, at which nothing is changed: where it is kept, it says
// that something was not.
func CheckTime(at time.Time) error {
	if at.IsZero() {
		return errors.New("a change is made at some time, not at the zero time")
	}
	return nil
}

// CheckLimit refuses a listing of fewer than one entry, which is always a
// forgotten limit.
func CheckLimit(limit int) error {
	if limit < 1 {
		return fmt.Errorf("the limit of a listing is 1 or more, not %d", limit)
	}
	return nil
}

// CheckEventPage refuses what CheckLimit refuses, and to go on before a number
// that no entry can have.
func CheckEventPage(p token.EventPage) error {
	if p.Before < 0 {
		return fmt.Errorf("the audit trail goes on before number 1 or a higher one, or from its end with 0, not before %d", p.Before)
	}
	return CheckLimit(p.Limit)
}

// CheckAccount refuses an account that binds nothing.
func CheckAccount(a token.Account) error {
	if a.Name == "" || a.Issuer == "" || a.Subject == "" {
		return errors.New("an account has a name, an issuer and a subject")
	}
	return CheckTime(a.Created)
}

// CheckTicket refuses a ticket that could not be found again, or has no end.
func CheckTicket(t token.Ticket) error {
	if t.Kind == "" || t.Digest == (token.Digest{}) || t.Created.IsZero() || t.Expires.IsZero() {
		return errors.New("a ticket has a kind, a digest, a beginning and an end")
	}
	return nil
}

// CheckTicketSelection refuses to select all.
func CheckTicketSelection(s token.TicketSelection) error {
	if s.Kind == "" || s.Owner == "" && s.Ref == "" {
		return errors.New("a selection of tickets names a kind, and an owner or a reference")
	}
	return nil
}

// CheckRotation refuses a new record that does not take the place of the old one.
func CheckRotation(old, record token.Record) error {
	if old.ID == record.ID || old.Owner != record.Owner {
		return errors.New("a token is rotated to another one of the same owner")
	}
	return CheckRecord(record)
}
