package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tokend/tokend/token"
)

var revocations = []claim{
	{"RevokingByIDRevokesThatToken", func(t *testing.T, s Store) {
		r, other := newRecord("alice"), newRecord("alice")
		mint(t, s, r, other)
		r.Revoked = now.Add(time.Minute)
		same(t, "revoked", revoke(t, s, token.Selection{ID: r.ID}, r.Revoked), []token.Record{r})
		same(t, "the token", lookup(t, s, r.Digest), r)
		same(t, "the other", lookup(t, s, other.Digest), other)
	}},

	{"RevokingByDigestRevokesThatToken", func(t *testing.T, s Store) {
		r, other := newRecord("alice"), newRecord("alice")
		mint(t, s, r, other)
		r.Revoked = now.Add(time.Minute)
		same(t, "revoked", revoke(t, s, token.Selection{Digest: r.Digest}, r.Revoked), []token.Record{r})
		same(t, "the token", lookup(t, s, r.Digest), r)
		same(t, "the other", lookup(t, s, other.Digest), other)
	}},

	{"RevokingAnOwnerRevokesAllTheirTokens", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 3)
		other := newRecord("Alice")
		mint(t, s, other)
		slices.Reverse(own)
		for i := range own {
			own[i].Revoked = now
		}
		same(t, "revoked, newest first", revoke(t, s, token.Selection{Owner: "alice"}, now), own)
		same(t, "kept", records(t, s, token.Page{Owner: "alice", Limit: all}), own)
		same(t, "another's", lookup(t, s, other.Digest), other)
	}},

	{"ExpiredTokenIsRevokedToo", func(t *testing.T, s Store) {
		r := newRecord("alice")
		r.Expires = now.Add(-time.Hour)
		mint(t, s, r)
		r.Revoked = now
		same(t, "revoked", revoke(t, s, token.Selection{Owner: "alice"}, now), []token.Record{r})
	}},

	{"RevocationIsKeptInUTCAndWholeMicroseconds", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		at := now.Add(999 * time.Nanosecond).In(time.FixedZone("", -3600))
		got := revoke(t, s, token.Selection{ID: r.ID}, at)[0].Revoked
		if kept := lookup(t, s, r.Digest).Revoked; got != token.Time(at) || kept != got {
			t.Errorf("revoked at %v, returned as %v, kept as %v", at, got, kept)
		}
	}},

	{"EachRevokedTokenGetsOneEventWithUserAndToken", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		event := told(token.TokenRevoked)
		event.User, event.Token = "mallory", "somebodyelse"
		if _, err := s.Revoke(t.Context(), token.Selection{Owner: "alice"}, now, event); err != nil {
			t.Fatal(err)
		}
		// written in the order of the records, which come newest first
		want := []token.Event{of(event, "alice", own[0].ID), of(event, "alice", own[1].ID)}
		same(t, "events", events(t, s, "")[:2], want)
	}},

	{"RevokingTwiceKeepsTheFirstTimeAndWritesOneEvent", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		revoke(t, s, token.Selection{ID: r.ID}, now)
		r.Revoked = now
		for _, selection := range []token.Selection{{ID: r.ID}, {Digest: r.Digest}, {Owner: "alice"}} {
			same(t, "revoked again", revoke(t, s, selection, now.Add(time.Hour)), []token.Record{r})
		}
		same(t, "kept", lookup(t, s, r.Digest), r)
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenRevoked, token.TokenCreated})
	}},

	{"RevokingAnOwnerReturnsThoseRevokedEarlierUnchanged", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		revoke(t, s, token.Selection{ID: own[0].ID}, now)
		own[0].Revoked, own[1].Revoked = now, now.Add(time.Hour)
		got := revoke(t, s, token.Selection{Owner: "alice"}, now.Add(time.Hour))
		same(t, "all of alice's", got, []token.Record{own[1], own[0]})
		same(t, "number of events", len(events(t, s, "alice")), 2+2)
	}},

	{"RevokedRecordsTellThatTheOwnerIsDisabled", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		setDisabled(t, s, "alice", true)
		r.Revoked, r.OwnerDisabled = now, true
		same(t, "revoked", revoke(t, s, token.Selection{ID: r.ID}, now), []token.Record{r})
	}},

	{"ConcurrentRevocationsWriteOneEvent", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				selection := []token.Selection{{ID: r.ID}, {Digest: r.Digest}, {Owner: "alice"}}[i%3]
				got, err := s.Revoke(t.Context(), selection, now.Add(time.Duration(i)), told(token.TokenRevoked))
				if err != nil || len(got) != 1 || got[0].Revoked.IsZero() {
					t.Errorf("got %v and error %v, want one revoked record", got, err)
				}
			})
		}
		group.Wait()
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenRevoked, token.TokenCreated})
	}},

	{"RevokingWhatIsUnknownIsNotFound", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		unknown := newRecord("Alice")
		for _, selection := range []token.Selection{{ID: unknown.ID}, {Digest: unknown.Digest}, {Owner: unknown.Owner}} {
			_, err := s.Revoke(t.Context(), selection, now, told(token.TokenRevoked))
			fails(t, fmt.Sprintf("revoke %+v", selection), err, token.ErrNotFound)
		}
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"SelectionOfNotExactlyOneFieldIsRefused", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		for _, selection := range []token.Selection{
			{},
			{ID: r.ID, Owner: r.Owner},
			{ID: r.ID, Digest: r.Digest},
			{Owner: r.Owner, Digest: r.Digest},
			{ID: r.ID, Owner: r.Owner, Digest: r.Digest},
		} {
			_, err := s.Revoke(t.Context(), selection, now, told(token.TokenRevoked))
			refused(t, fmt.Sprintf("revoke %+v", selection), err)
		}
		same(t, "kept", lookup(t, s, r.Digest), r)
	}},

	{"RevokingAtTheZeroTimeIsRefused", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		_, err := s.Revoke(t.Context(), token.Selection{ID: r.ID}, time.Time{}, told(token.TokenRevoked))
		refused(t, "revoke at the zero time, which means not revoked", err)
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},
}
