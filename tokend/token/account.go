package token

import (
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"time"
)

// Account binds the name of an iRODS user to the one who signs in by it.
type Account struct {
	Name    string
	Issuer  string // the OIDC provider's
	Subject string // who it is, as the provider says for ever
	Created time.Time
}

// TakenError is that a name is bound to somebody else, or somebody to another name.
type TakenError struct {
	By Account // which is there
}

func (e TakenError) Error() string { return "the name " + e.By.Name + " is bound to another" }

// Ticket is what a secret that is no token opens for a while: a session of the web pages, a link to sign
// in by, a device that waits for its token.
type Ticket struct {
	Digest  Digest // of the secret, see NewTicket
	Kind    TicketKind
	Owner   string    // the iRODS user; empty: nobody yet
	Ref     string    // what others find it by: a device's code for people, a session's at the provider; empty: nothing
	Data    []byte    // what the kind keeps besides, in JSON
	Created time.Time //
	Expires time.Time // never zero; at the very microsecond it is still good
	Version int64     // how often it was changed

	OwnerDisabled bool // whether the owner was disabled when the ticket was read
}

// TicketKind is what a ticket is for.
type TicketKind string

// Every TicketKind there is.
const (
	SessionTicket TicketKind = "session"
	LinkTicket    TicketKind = "link"
	DeviceTicket  TicketKind = "device"
)

// ErrChanged is that a ticket was changed, or taken, by somebody else meanwhile.
var ErrChanged = errors.New("was changed meanwhile")

// NewTicketSecret makes the secret of a ticket: 26 characters of A-Z and 2-7, of 130 random bits.
func NewTicketSecret() string { return rand.Text() }

// TicketDigest is what is kept in the place of a ticket's secret.
func TicketDigest(secret string) Digest { return Digest(sha512.Sum512([]byte(secret))) }

// TicketSelection names tickets of a kind: of those fields that are set, all must agree.
type TicketSelection struct {
	Kind  TicketKind
	Owner string
	Ref   string
}

// Same reports whether both bind the same name to the same one.
func (a Account) Same(b Account) bool {
	return a.Name == b.Name && a.Issuer == b.Issuer && a.Subject == b.Subject
}
