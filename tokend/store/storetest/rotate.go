package storetest

import (
	"testing"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// rotate has a new token take the place of the old one, an hour later.
func rotate(t *testing.T, s Store, old token.Record, until time.Time, quota token.Quota) (token.Record, error) {
	t.Helper()
	next := newRecord(old.Owner)
	next.Created = now.Add(time.Hour)
	return next, s.Rotate(t.Context(), old, next, until, quota, told(token.TokenRotated), told(token.TokenCreated))
}

var rotations = []claim{
	{"ARotatedTokenIsGoodUntilThen", func(t *testing.T, s Store) {
		old, other := newRecord("alice"), newRecord("alice")
		mint(t, s, old, other)
		until := now.Add(2*time.Hour + 999*time.Nanosecond)
		next, err := rotate(t, s, old, until, token.Quota{})
		if err != nil {
			t.Fatal(err)
		}
		old.Expires = token.Time(until)
		same(t, "the old one", lookup(t, s, old.Digest), old)
		same(t, "the new one", lookup(t, s, next.Digest), next)
		same(t, "another", lookup(t, s, other.Digest), other)
		same(t, "events", events(t, s, "alice")[:2], []token.Event{of(told(token.TokenCreated), "alice", next.ID), of(told(token.TokenRotated), "alice", old.ID)})
	}},

	{"ATokenThatIsRotatedAtOnceIsRevoked", func(t *testing.T, s Store) {
		for _, until := range []time.Time{now.Add(time.Hour), now, {}} {
			old := newRecord("alice")
			mint(t, s, old)
			next, err := rotate(t, s, old, until, token.Quota{})
			if err != nil {
				t.Fatal(err)
			}
			old.Revoked = next.Created
			same(t, "the old one", lookup(t, s, old.Digest), old)
		}
	}},

	{"ATokenIsRotatedOnce", func(t *testing.T, s Store) {
		old := newRecord("alice")
		mint(t, s, old)
		if _, err := rotate(t, s, old, now.Add(2*time.Hour), token.Quota{}); err != nil {
			t.Fatal(err)
		}
		_, err := rotate(t, s, old, now.Add(3*time.Hour), token.Quota{})
		fails(t, "what was read before", err, token.ErrChanged)
		old = lookup(t, s, old.Digest)
		revoke(t, s, token.Selection{ID: old.ID}, now)
		_, err = rotate(t, s, old, now.Add(3*time.Hour), token.Quota{})
		fails(t, "what is revoked", err, token.ErrChanged)
		_, err = rotate(t, s, newRecord("alice"), now.Add(3*time.Hour), token.Quota{})
		fails(t, "what there is not", err, token.ErrChanged)
		stranger := old
		stranger.Owner = "bob"
		mintNew(t, s, "bob", 1)
		_, err = rotate(t, s, stranger, now.Add(3*time.Hour), token.Quota{})
		fails(t, "somebody else's", err, token.ErrChanged)
		same(t, "tokens", len(records(t, s, token.Page{Owner: "alice", Limit: all})), 2)
	}},

	{"ARotationThatIsRefusedChangesNothing", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		before := events(t, s, "")
		_, err := rotate(t, s, own[0], now.Add(2*time.Hour), token.Quota{Tokens: 2})
		fails(t, "a third one", err, token.ErrTooMany)
		next := newRecord("alice")
		next.ID, next.Created = own[1].ID, now.Add(time.Hour)
		err = s.Rotate(t.Context(), own[0], next, now, token.Quota{}, told(token.TokenRotated), told(token.TokenCreated))
		fails(t, "an ID that there is", err, store.ErrExists)
		next.Owner = "bob"
		refused(t, "to somebody else", s.Rotate(t.Context(), own[0], next, now, token.Quota{}, told(token.TokenRotated), told(token.TokenCreated)))
		same(t, "the token", lookup(t, s, own[0].Digest), own[0])
		same(t, "events", events(t, s, ""), before)
		if _, err := rotate(t, s, own[0], now, token.Quota{Tokens: 2}); err != nil {
			t.Errorf("one that takes the other's place at once: %v", err)
		}
		setDisabled(t, s, "alice", true)
		_, err = rotate(t, s, own[1], now, token.Quota{})
		fails(t, "a disabled user's", err, token.ErrUserDisabled)
		own[1].OwnerDisabled = true
		same(t, "the disabled user's", lookup(t, s, own[1].Digest), own[1])
	}},

	{"WhatWasCreatedBeforeIsRevoked", func(t *testing.T, s Store) {
		alices, bobs := mintNew(t, s, "alice", 3), mintNew(t, s, "bob", 3)
		before := token.Selection{Owner: "alice", Before: alices[2].Created}
		ids := func(records []token.Record) (all []string) {
			for _, r := range records {
				all = append(all, r.ID)
			}
			return all
		}
		same(t, "alice's", ids(revoke(t, s, before, now)), []string{alices[1].ID, alices[0].ID})
		same(t, "none is left", ids(revoke(t, s, before, now)), []string{})
		same(t, "everybody's", len(revoke(t, s, token.Selection{Before: now.Add(time.Hour)}, now)), 4)
		same(t, "the youngest", lookup(t, s, bobs[2].Digest).Revoked, now)
		same(t, "events", len(events(t, s, "")), 6+6)
	}},

	{"OfManyThatWereCreatedBeforeSomeAreRevokedAtATime", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", store.RevokedAtOnce+1)
		before := token.Selection{Before: now.Add(100 * time.Hour)}
		for _, want := range []int{store.RevokedAtOnce, 1, 0} {
			same(t, "revoked", len(revoke(t, s, before, now)), want)
		}
	}},
}

var uses = []claim{
	{"TheLastUseIsListed", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		note := func(uses ...token.Use) {
			t.Helper()
			if err := s.NoteUses(t.Context(), uses); err != nil {
				t.Fatal(err)
			}
		}
		at := now.Add(time.Minute + 999*time.Nanosecond)
		note(token.Use{Token: own[0].ID, At: at, API: true}, token.Use{Token: "nosuchtoken1", At: at})
		note(token.Use{Token: own[0].ID, At: at.Add(-time.Second)})
		note()
		own[0].Used, own[0].UsedByAPI = token.Time(at), true
		same(t, "list", records(t, s, token.Page{Limit: all}), []token.Record{own[1], own[0]})
		one, err := s.Record(t.Context(), own[0].ID)
		fails(t, "by ID", err, nil)
		same(t, "by ID", one, own[0])
		note(token.Use{Token: own[0].ID, At: at.Add(time.Second)})
		own[0].Used, own[0].UsedByAPI = token.Time(at.Add(time.Second)), false
		same(t, "later", records(t, s, token.Page{Limit: all}), []token.Record{own[1], own[0]})
		_, err = s.Record(t.Context(), "nosuchtoken1")
		fails(t, "an unknown ID", err, token.ErrNotFound)
	}},

	{"OnlyWhatIsActiveIsListed", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 4)
		expired := newRecord("alice")
		expired.Created, expired.Expires = now.Add(time.Minute), now.Add(time.Hour)
		mint(t, s, expired)
		revoke(t, s, token.Selection{ID: own[1].ID}, now)
		at := expired.Expires
		for _, c := range []struct {
			page token.Page
			want []token.Record
		}{
			{token.Page{ActiveAt: at, Limit: all}, []token.Record{expired, own[3], own[2], own[0]}},
			{token.Page{ActiveAt: at.Add(time.Microsecond), Limit: all}, []token.Record{own[3], own[2], own[0]}},
			{token.Page{ActiveAt: at.Add(time.Microsecond), MaxLife: 3600 - 3, Limit: all}, nil},
			{token.Page{ActiveAt: at, MaxLife: 3600 - 3, Limit: all}, []token.Record{expired, own[3]}},
			{token.Page{ActiveAt: at, After: own[3].ID, Limit: 1}, []token.Record{own[2]}},
			{token.Page{ActiveAt: at, After: own[1].ID, Owner: "alice", Limit: all}, []token.Record{own[0]}},
		} {
			same(t, "list", records(t, s, c.page), c.want)
		}
	}},

	{"UsersAreFoundByAPartOfTheirName", func(t *testing.T, s Store) {
		for _, name := range []string{"alice@b.org", "Alice", "bob", "malice%x"} {
			r := newRecord("alice")
			r.Owner = name
			mint(t, s, r)
		}
		for _, c := range []struct {
			page token.UserPage
			want []string
		}{
			{token.UserPage{Limit: all}, []string{"Alice", "alice@b.org", "bob", "malice%x"}},
			{token.UserPage{Find: "ALICE", Limit: all}, []string{"Alice", "alice@b.org", "malice%x"}},
			{token.UserPage{Find: "alice", After: "Alice", Limit: 1}, []string{"alice@b.org"}},
			{token.UserPage{Find: "%", Limit: all}, []string{"malice%x"}},
			{token.UserPage{Find: "_", Limit: all}, nil},
			{token.UserPage{After: "malice%x", Limit: all}, nil},
		} {
			found, err := s.Users(t.Context(), c.page, now, token.Forever)
			fails(t, "users", err, nil)
			var names []string
			for _, u := range found {
				names = append(names, u.Name)
			}
			same(t, c.page.Find, names, c.want)
		}
		_, err := s.Users(t.Context(), token.UserPage{}, now, token.Forever)
		refused(t, "no limit", err)
	}},

	{"TheTrailIsFoundByWhatItTells", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		late := told(token.TokenRevoked)
		late.At = now.Add(time.Hour)
		_, err := s.Revoke(t.Context(), token.Selection{ID: own[0].ID}, now, late)
		fails(t, "revoke", err, nil)
		created := func(r token.Record) token.Event { return of(told(token.TokenCreated), "alice", r.ID) }
		revoked := of(late, "alice", own[0].ID)
		for what, c := range map[string]struct {
			page token.EventPage
			want []token.Event
		}{
			"of a token":          {token.EventPage{Token: own[0].ID, Limit: all}, []token.Event{revoked, created(own[0])}},
			"of an action":        {token.EventPage{Action: token.TokenRevoked, Limit: all}, []token.Event{revoked}},
			"since":               {token.EventPage{Since: late.At, Limit: all}, []token.Event{revoked}},
			"since, later":        {token.EventPage{Since: late.At.Add(time.Microsecond), Limit: all}, nil},
			"until":               {token.EventPage{Until: late.At, Limit: all}, []token.Event{created(own[1]), created(own[0])}},
			"all that may be set": {token.EventPage{User: "alice", Token: own[0].ID, Action: token.TokenCreated, Since: now, Until: late.At, Limit: all}, []token.Event{created(own[0])}},
			"and of nobody":       {token.EventPage{User: "bob", Token: own[0].ID, Limit: all}, nil},
		} {
			same(t, what, eventPage(t, s, c.page), c.want)
		}
	}},
}
