package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tokend/tokend/token"
)

// now is when everything here happens, unless it says otherwise.
var now = time.Date(2026, time.March, 4, 5, 6, 7, 891_234_000, time.UTC)

const all = 1000 // a limit that no listing here reaches

// newRecord returns the record of a fresh token that never expires.
func newRecord(owner string) token.Record {
	secret := token.Mint()
	return token.Record{
		ID:      token.NewID(),
		Digest:  secret.Digest(),
		Owner:   owner,
		Hint:    secret.Hint(),
		Label:   "laptop",
		Created: now,
	}
}

// told is an event as the management hands it in: without user and token.
func told(action token.Action) token.Event {
	return token.Event{At: now.Add(time.Microsecond), Actor: "uid=0(root)", Action: action, Detail: "by hand"}
}

// of is the event as the store keeps it.
func of(event token.Event, user, id string) token.Event {
	event.User, event.Token = user, id
	return event
}

func mint(t *testing.T, s Store, records ...token.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Mint(t.Context(), r, token.Quota{}, told(token.TokenCreated)); err != nil {
			t.Fatalf("mint for %s: %v", r.Owner, err)
		}
	}
}

// mintNew mints so many fresh tokens, each a second younger than the one before.
func mintNew(t *testing.T, s Store, owner string, count int) []token.Record {
	t.Helper()
	var records []token.Record
	for i := range count {
		r := newRecord(owner)
		r.Created = now.Add(time.Duration(i) * time.Second)
		records = append(records, r)
	}
	mint(t, s, records...)
	return records
}

func revoke(t *testing.T, s Store, selection token.Selection, at time.Time) []token.Record {
	t.Helper()
	records, err := s.Revoke(t.Context(), selection, at, told(token.TokenRevoked))
	if err != nil {
		t.Fatalf("revoke: %v", err)
	}
	return records
}

func setDisabled(t *testing.T, s Store, user string, disabled bool) []token.Digest {
	t.Helper()
	action := token.UserEnabled
	if disabled {
		action = token.UserDisabled
	}
	digests, _, err := s.SetDisabled(t.Context(), user, disabled, now, told(action))
	if err != nil {
		t.Fatalf("set disabled of %s to %v: %v", user, disabled, err)
	}
	return digests
}

func lookup(t *testing.T, s Store, digest token.Digest) token.Record {
	t.Helper()
	record, err := s.Lookup(t.Context(), digest)
	if err != nil {
		t.Fatalf("look up: %v", err)
	}
	return record
}

// list calls a method that lists and returns its answer.
func list[T any](t *testing.T, ask func(context.Context) (T, error)) T {
	t.Helper()
	answer, err := ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func records(t *testing.T, s Store, page token.Page) []token.Record {
	t.Helper()
	return list(t, func(ctx context.Context) ([]token.Record, error) { return s.Records(ctx, page) })
}

func users(t *testing.T, s Store) []token.User {
	t.Helper()
	return list(t, func(ctx context.Context) ([]token.User, error) {
		return s.Users(ctx, token.UserPage{Limit: all}, now, token.Forever)
	})
}

func events(t *testing.T, s Store, user string) []token.Event {
	t.Helper()
	return eventPage(t, s, token.EventPage{User: user, Limit: all})
}

func eventPage(t *testing.T, s Store, page token.EventPage) []token.Event {
	t.Helper()
	return list(t, func(ctx context.Context) ([]token.Event, error) { return s.Events(ctx, page) })
}

func actions(t *testing.T, s Store, user string) []token.Action {
	t.Helper()
	var all []token.Action
	for _, e := range events(t, s, user) {
		all = append(all, e.Action)
	}
	return all
}

// likeness is how answers are compared: nil and empty are the same, and which
// numbers the events have is each store's own matter, but see trail.
var likeness = cmp.Options{cmpopts.EquateEmpty(), cmpopts.IgnoreFields(token.Event{}, "Number")}

// same fails if got is not want.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, likeness); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// fails fails if err is not the wanted one.
func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// refused fails if err is nil.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
	}
}
