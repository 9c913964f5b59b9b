// Package storetest says what every store of tokens promises, as a suite that
// each store runs against itself. A store that passes it can take another's
// place.
package storetest

import (
	"context"
	"testing"
	"time"

	"tokend/tokend/token"
)

// Store is what the suite asks of a store. Code that uses a store declares the
// few methods it needs instead.
type Store interface {
	Lookup(ctx context.Context, digest token.Digest) (token.Record, error)
	Mint(ctx context.Context, record token.Record, quota token.Quota, event token.Event) error
	Adopt(ctx context.Context, records []token.Record, event token.Event) ([]string, error)
	Known(ctx context.Context, digests []token.Digest) (int, error)
	Revoke(ctx context.Context, selection token.Selection, at time.Time, event token.Event) ([]token.Record, error)
	SetDisabled(ctx context.Context, user string, disabled bool, at time.Time, event token.Event) (digests []token.Digest, changed bool, err error)
	Records(ctx context.Context, page token.Page) ([]token.Record, error)
	Rotate(ctx context.Context, old, record token.Record, until time.Time, quota token.Quota, ended, made token.Event) error
	Record(ctx context.Context, id string) (token.Record, error)
	NoteUses(ctx context.Context, uses []token.Use) error
	Users(ctx context.Context, page token.UserPage, now time.Time, limit token.Life) ([]token.User, error)
	Events(ctx context.Context, page token.EventPage) ([]token.Event, error)
	Count(ctx context.Context, now time.Time, limit token.Life) (map[token.State]int, error)
	Ping(ctx context.Context) error

	Bind(ctx context.Context, account token.Account, event token.Event) (token.Account, error)
	Unbind(ctx context.Context, name string, event token.Event) error
	Account(ctx context.Context, name string) (token.Account, error)
	AccountOf(ctx context.Context, issuer, subject string) (token.Account, error)

	PutTicket(ctx context.Context, t token.Ticket, most int, events ...token.Event) error
	Ticket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error)
	TicketByRef(ctx context.Context, kind token.TicketKind, ref string) (token.Ticket, error)
	ChangeTicket(ctx context.Context, t token.Ticket) error
	TakeTicket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error)
	EndTickets(ctx context.Context, selection token.TicketSelection) (int64, error)
	PruneTickets(ctx context.Context, before time.Time) (int64, error)
	WebKey(ctx context.Context) ([32]byte, error)
}

// claim is one promise. Its check gets an empty store.
type claim struct {
	name  string
	check func(t *testing.T, s Store)
}

// Run checks every promise, each with an empty store of its own, which open
// makes and t.Cleanup removes.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, claims := range [][]claim{lookups, mints, adoptions, limits, revocations, disablings, pages, listings, trail, counts, contexts, rotations, uses, bindings, tickets} {
		for _, c := range claims {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.check(t, open(t))
			})
		}
	}
	t.Run("StoreBehavesLikeTheModel", func(t *testing.T) {
		t.Parallel()
		checkModel(t, open)
	})
}
