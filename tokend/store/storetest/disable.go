package storetest

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"tokend/tokend/token"
)

var disablings = []claim{
	{"DisablingSaysSinceWhen", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		mintNew(t, s, "bob", 1)
		at := now.Add(999 * time.Nanosecond).In(time.FixedZone("", 3600))
		if _, _, err := s.SetDisabled(t.Context(), "alice", true, at, told(token.UserDisabled)); err != nil {
			t.Fatal(err)
		}
		got := users(t, s)
		same(t, "users", got, []token.User{{Name: "alice", Disabled: now, Tokens: 1}, {Name: "bob", Tokens: 1}})
		if got[0].Disabled != token.Time(at) {
			t.Errorf("disabled at %v, kept as %v", at, got[0].Disabled)
		}
		setDisabled(t, s, "alice", false)
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 1}, {Name: "bob", Tokens: 1}})
	}},

	{"DisablingTwiceKeepsTheFirstTimeAndWritesOneEvent", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		for i, first := range []bool{true, false} {
			at := now.Add(time.Duration(i) * time.Hour)
			if _, changed, err := s.SetDisabled(t.Context(), "alice", true, at, told(token.UserDisabled)); err != nil || changed != first {
				t.Fatalf("changed %v, %v", changed, err)
			}
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice", Disabled: now, Tokens: 1}})
		same(t, "actions", actions(t, s, ""), []token.Action{token.UserDisabled, token.TokenCreated})
	}},

	{"EnablingWhoIsEnabledWritesNoEvent", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		setDisabled(t, s, "alice", false)
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"DisablingWritesAnEventWithTheUserAndNoToken", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		event := told(token.UserDisabled)
		event.User, event.Token = "mallory", "somebodyelse"
		if _, _, err := s.SetDisabled(t.Context(), "alice", true, now, event); err != nil {
			t.Fatal(err)
		}
		same(t, "event", events(t, s, "")[0], of(event, "alice", ""))
	}},

	{"DisablingReturnsTheDigestsOfTokensNotRevoked", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 3)
		expired := newRecord("alice")
		expired.Expires = now.Add(-time.Hour)
		mint(t, s, expired, newRecord("Alice"))
		revoke(t, s, token.Selection{ID: own[0].ID}, now)
		want := sorted(own[1].Digest, own[2].Digest, expired.Digest)
		for _, disabled := range []bool{false, true, true, false} { // whether it changes anything or not
			same(t, "digests", sorted(setDisabled(t, s, "alice", disabled)...), want)
		}
	}},

	{"DisablingLeavesTheTokensAsTheyAre", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		setDisabled(t, s, "alice", true)
		setDisabled(t, s, "alice", false)
		same(t, "record", lookup(t, s, r.Digest), r)
	}},

	{"DisablingAnUnknownUserIsNotFound", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		for _, disabled := range []bool{true, false} {
			_, _, err := s.SetDisabled(t.Context(), "Alice", disabled, now, told(token.UserDisabled))
			fails(t, "disable", err, token.ErrNotFound)
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 1}})
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"DisablingAtTheZeroTimeIsRefused", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		_, _, err := s.SetDisabled(t.Context(), "alice", true, time.Time{}, told(token.UserDisabled))
		refused(t, "disable at the zero time, which means not disabled", err)
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"ConcurrentDisablingsWriteOneEvent", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if _, _, err := s.SetDisabled(t.Context(), "alice", true, now, told(token.UserDisabled)); err != nil {
					t.Errorf("disable: %v", err)
				}
			})
		}
		group.Wait()
		same(t, "actions", actions(t, s, ""), []token.Action{token.UserDisabled, token.TokenCreated})
	}},
}

func sorted(digests ...token.Digest) []token.Digest {
	slices.SortFunc(digests, func(a, b token.Digest) int { return bytes.Compare(a[:], b[:]) })
	return digests
}
