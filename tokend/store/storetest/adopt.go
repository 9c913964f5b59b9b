package storetest

import (
	"slices"
	"testing"
	"time"

	"tokend/tokend/token"
)

// foreign is a token that another program has made.
func foreign(owner string, scheme token.Scheme) token.Record {
	r := newRecord(owner)
	r.Scheme, r.Created, r.Expires = scheme, now.Add(-time.Hour), now.Add(time.Hour)
	return r
}

func adopt(t *testing.T, s Store, records ...token.Record) []string {
	t.Helper()
	kept, err := s.Adopt(t.Context(), records, told(token.TokenImported))
	if err != nil {
		t.Fatalf("adopt: %v", err)
	}
	return slices.Sorted(slices.Values(kept))
}

func ids(records ...token.Record) (all []string) {
	for _, r := range records {
		all = append(all, r.ID)
	}
	slices.Sort(all)
	return all
}

var adoptions = []claim{
	{"AdoptedTokensAreKeptAsTheyAre", func(t *testing.T, s Store) {
		five, four := foreign("alice", token.Knox5), foreign("bob@ORG", token.Knox4)
		four.Expires, four.Label = time.Time{}, ""
		same(t, "kept", adopt(t, s, five, four), ids(five, four))
		for _, r := range []token.Record{five, four} {
			same(t, "record", lookup(t, s, r.Digest), r)
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 1}, {Name: "bob@ORG", Tokens: 1}})
	}},

	{"AdoptWritesAnEventForEach", func(t *testing.T, s Store) {
		one, two := foreign("alice", token.Knox5), foreign("bob", token.Knox4)
		adopt(t, s, one)
		adopt(t, s, one, two)
		same(t, "events", events(t, s, ""), []token.Event{
			of(told(token.TokenImported), "bob", two.ID), of(told(token.TokenImported), "alice", one.ID),
		})
	}},

	{"WhatIsKeptIsNotAdoptedAgain", func(t *testing.T, s Store) {
		r := foreign("alice", token.Knox5)
		adopt(t, s, r)
		revoke(t, s, token.Selection{ID: r.ID}, now)
		before := lookup(t, s, r.Digest)
		again := r
		again.ID, again.Label, again.Owner, again.Expires = token.NewID(), "another", "mallory", time.Time{}
		same(t, "kept again", adopt(t, s, again), []string(nil))
		same(t, "kept twice at once", adopt(t, s, again, again), []string(nil))
		same(t, "record", lookup(t, s, r.Digest), before)
		same(t, "users", len(users(t, s)), 1)
		other := foreign("carol", token.Knox5)
		twin := other
		twin.ID = token.NewID()
		same(t, "twins", len(adopt(t, s, other, twin)), 1)
	}},

	{"ADisabledOwnerStaysDisabled", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		setDisabled(t, s, "alice", true)
		r := foreign("alice", token.Knox4)
		same(t, "kept", adopt(t, s, r), ids(r))
		if !lookup(t, s, r.Digest).OwnerDisabled {
			t.Error("the owner is no longer disabled")
		}
	}},

	{"OfTokensThatCannotBeKeptNoneIs", func(t *testing.T, s Store) {
		good, bad := foreign("alice", token.Knox5), foreign("bob", token.Knox5)
		bad.Owner = ""
		if _, err := s.Adopt(t.Context(), []token.Record{good, bad}, told(token.TokenImported)); err == nil {
			t.Error("a token of nobody is kept")
		}
		same(t, "users", users(t, s), []token.User{})
		same(t, "records", records(t, s, token.Page{Limit: all}), []token.Record{})
		same(t, "events", events(t, s, ""), []token.Event{})
	}},

	{"ManyAreAdoptedAtOnce", func(t *testing.T, s Store) {
		var many []token.Record
		for i := range 500 {
			r := foreign([]string{"alice", "bob", "carol"}[i%3], token.Knox4)
			many = append(many, r)
		}
		same(t, "kept", adopt(t, s, many...), ids(many...))
		same(t, "kept again", adopt(t, s, many...), []string(nil))
		same(t, "events", len(events(t, s, "")), 500)
		digests := []token.Digest{newRecord("alice").Digest}
		for _, r := range many {
			digests = append(digests, r.Digest)
		}
		for _, some := range [][]token.Digest{nil, digests[:1], digests} {
			n, err := s.Known(t.Context(), some)
			if err != nil || n != max(len(some)-1, 0) {
				t.Errorf("of %d digests %d are known: %v", len(some), n, err)
			}
		}
	}},
}
