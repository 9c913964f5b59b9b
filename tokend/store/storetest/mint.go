package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

var mints = []claim{
	{"FirstTokenMakesTheUser", func(t *testing.T, s Store) {
		same(t, "users of an empty store", users(t, s), []token.User{})
		mintNew(t, s, "alice", 2)
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 2}})
	}},

	{"MintWritesOneEventWithUserAndToken", func(t *testing.T, s Store) {
		r := newRecord("alice")
		event := told(token.TokenCreated)
		event.User, event.Token = "mallory", "somebodyelse" // the record says, not the event
		if err := s.Mint(t.Context(), r, token.Quota{}, event); err != nil {
			t.Fatal(err)
		}
		same(t, "events", events(t, s, ""), []token.Event{of(event, "alice", r.ID)})
	}},

	{"SameDigestOrIDIsRefused", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		sameID, sameDigest := newRecord("bob"), newRecord("bob")
		sameID.ID, sameDigest.Digest = r.ID, r.Digest
		for _, twin := range []token.Record{r, sameID, sameDigest} {
			err := s.Mint(t.Context(), twin, token.Quota{}, told(token.TokenCreated))
			fails(t, "mint a twin", err, store.ErrExists)
		}
		same(t, "the first", lookup(t, s, r.Digest), r)
		same(t, "records", records(t, s, token.Page{Limit: all}), []token.Record{r})
	}},

	{"RevokedTokenCannotBeMintedAgain", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		revoke(t, s, token.Selection{ID: r.ID}, now)
		err := s.Mint(t.Context(), r, token.Quota{}, told(token.TokenCreated))
		fails(t, "mint again", err, store.ErrExists)
		if lookup(t, s, r.Digest).Revoked.IsZero() {
			t.Error("the token is no longer revoked")
		}
	}},

	{"DisabledUserGetsNoToken", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		setDisabled(t, s, "alice", true)
		err := s.Mint(t.Context(), newRecord("alice"), token.Quota{}, told(token.TokenCreated))
		fails(t, "mint while disabled", err, token.ErrUserDisabled)
		setDisabled(t, s, "alice", false)
		mintNew(t, s, "alice", 1)
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 2}})
	}},

	{"FailedMintLeavesNeitherUserNorTokenNorEvent", func(t *testing.T, s Store) {
		first, disabled := newRecord("alice"), newRecord("dora")
		mint(t, s, first, disabled)
		setDisabled(t, s, "dora", true)
		usersBefore, recordsBefore, eventsBefore := users(t, s), records(t, s, token.Page{Limit: all}), events(t, s, "")
		for _, change := range []func(*token.Record){
			func(r *token.Record) { r.ID = first.ID },
			func(r *token.Record) { r.Digest = first.Digest },
			func(r *token.Record) { r.Owner = "dora" },
			func(r *token.Record) { r.Owner = "alice" }, // who may have one
			func(r *token.Record) { r.ID = "" },
			func(r *token.Record) { r.Digest = token.Digest{} },
			func(r *token.Record) { r.Owner = "" },
			func(r *token.Record) { r.Created = time.Time{} },
		} {
			r := newRecord("newcomer")
			change(&r)
			refused(t, "mint", s.Mint(t.Context(), r, token.Quota{Tokens: 1}, told(token.TokenCreated)))
			same(t, "users", users(t, s), usersBefore)
			same(t, "records", records(t, s, token.Page{Limit: all}), recordsBefore)
			same(t, "events", events(t, s, ""), eventsBefore)
		}
	}},
}

var limits = []claim{
	{"MintBeyondTheLimitIsRefused", func(t *testing.T, s Store) {
		for i, want := range []error{nil, nil, nil, token.ErrTooMany, token.ErrTooMany} {
			err := s.Mint(t.Context(), newRecord("alice"), token.Quota{Tokens: 3}, told(token.TokenCreated))
			if !errors.Is(err, want) {
				t.Errorf("mint %d: got error %v, want %v", i+1, err, want)
			}
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 3}})
	}},

	{"LimitOfZeroIsNone", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 60)
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 60}})
	}},

	{"LimitIsOfEachUser", func(t *testing.T, s Store) {
		for _, name := range []string{"alice", "Alice", "bob"} {
			if err := s.Mint(t.Context(), newRecord(name), token.Quota{Tokens: 1}, told(token.TokenCreated)); err != nil {
				t.Errorf("mint for %s: %v", name, err)
			}
		}
	}},

	{"RevokedAndExpiredTokensDoNotCountTowardsTheLimit", func(t *testing.T, s Store) {
		revoked, expired, last := newRecord("alice"), newRecord("alice"), newRecord("alice")
		expired.Expires = now.Add(-time.Microsecond)
		last.Expires = now // its last microsecond: still active
		mint(t, s, revoked, expired, last)
		revoke(t, s, token.Selection{ID: revoked.ID}, now)
		err := s.Mint(t.Context(), newRecord("alice"), token.Quota{Tokens: 1}, told(token.TokenCreated))
		fails(t, "mint at the last one's last microsecond", err, token.ErrTooMany)
		later := newRecord("alice")
		later.Created = now.Add(time.Microsecond)
		if err := s.Mint(t.Context(), later, token.Quota{Tokens: 1}, told(token.TokenCreated)); err != nil {
			t.Errorf("mint a microsecond later: %v", err)
		}
	}},

	{"TokensPastTheLongestLifeDoNotCountTowardsTheLimit", func(t *testing.T, s Store) {
		old, atTheEnd := newRecord("alice"), newRecord("alice")
		old.Created, atTheEnd.Created = now.Add(-time.Hour-time.Microsecond), now.Add(-time.Hour)
		mint(t, s, old, atTheEnd)
		quota := token.Quota{Tokens: 1, MaxLife: 3600}
		err := s.Mint(t.Context(), newRecord("alice"), quota, told(token.TokenCreated))
		fails(t, "mint at the last one's last microsecond", err, token.ErrTooMany)
		later := newRecord("alice")
		later.Created = now.Add(time.Microsecond)
		if err := s.Mint(t.Context(), later, quota, told(token.TokenCreated)); err != nil {
			t.Errorf("mint a microsecond later: %v", err)
		}
	}},

	{"ConcurrentMintsDoNotExceedTheLimit", func(t *testing.T, s Store) {
		const limit, attempts = 7, 20
		var minted, denied atomic.Int32
		var group sync.WaitGroup
		for range attempts {
			group.Go(func() {
				err := s.Mint(t.Context(), newRecord("alice"), token.Quota{Tokens: limit}, told(token.TokenCreated))
				switch {
				case err == nil:
					minted.Add(1)
				case errors.Is(err, token.ErrTooMany):
					denied.Add(1)
				default:
					t.Errorf("mint: %v", err)
				}
			})
		}
		group.Wait()
		if minted.Load() != limit || denied.Load() != attempts-limit {
			t.Errorf("%d minted and %d refused, want %d and %d", minted.Load(), denied.Load(), limit, attempts-limit)
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: limit}})
		same(t, "number of events", len(events(t, s, "alice")), limit)
	}},
}
