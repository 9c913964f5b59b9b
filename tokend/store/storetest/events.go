package storetest

import (
	"math"
	"testing"
	"time"

	"tokend/tokend/token"
)

var trail = []claim{
	{"EventsComeNewestFirst", func(t *testing.T, s Store) {
		a, b := newRecord("alice"), newRecord("bob")
		mint(t, s, a, b)
		revoke(t, s, token.Selection{ID: a.ID}, now)
		setDisabled(t, s, "alice", true)
		setDisabled(t, s, "alice", false)
		want := []token.Event{
			of(told(token.UserEnabled), "alice", ""),
			of(told(token.UserDisabled), "alice", ""),
			of(told(token.TokenRevoked), "alice", a.ID),
			of(told(token.TokenCreated), "bob", b.ID),
			of(told(token.TokenCreated), "alice", a.ID),
		}
		same(t, "all events", events(t, s, ""), want)
		same(t, "alice's events", events(t, s, "alice"), []token.Event{want[0], want[1], want[2], want[4]})
		same(t, "nobody's events", events(t, s, "nobody"), []token.Event{})
		for limit := 1; limit <= len(want)+1; limit++ {
			same(t, "latest events", eventPage(t, s, token.EventPage{Limit: limit}), want[:min(limit, len(want))])
		}
	}},

	{"EventsKeepWhatTheySay", func(t *testing.T, s Store) {
		event := told(token.TokenCreated)
		event.At = time.Date(2026, time.July, 1, 2, 3, 4, 999_999_999, time.FixedZone("", 3600))
		event.Actor, event.Detail = "oidc:ᴀlice'\"", "label “🔑”; expires never"
		r := newRecord("alice")
		if err := s.Mint(t.Context(), r, token.Quota{}, event); err != nil {
			t.Fatal(err)
		}
		got := events(t, s, "")[0]
		if got.At != token.Time(event.At) {
			t.Errorf("kept the time %v of %v", got.At, event.At)
		}
		event.At = got.At
		same(t, "event", got, of(event, "alice", r.ID))
	}},

	{"EventNumbersFallFromTheNewestToTheOldest", func(t *testing.T, s Store) {
		event := told(token.TokenCreated)
		event.Number = 1 // is not for the caller to choose
		for _, owner := range []string{"alice", "bob", "alice"} {
			if err := s.Mint(t.Context(), newRecord(owner), token.Quota{}, event); err != nil {
				t.Fatal(err)
			}
		}
		revoke(t, s, token.Selection{Owner: "alice"}, now)
		got := numbers(events(t, s, ""))
		for i, n := range got {
			if n < 1 || i > 0 && n >= got[i-1] {
				t.Errorf("the numbers, newest first, are %v", got)
			}
		}
		same(t, "number of events", len(got), 5)
		same(t, "bob's", numbers(events(t, s, "bob")), []int64{got[3]})
		same(t, "alice's", numbers(events(t, s, "alice")), []int64{got[0], got[1], got[2], got[4]})
		setDisabled(t, s, "bob", true)
		same(t, "the same later", numbers(events(t, s, ""))[1:], got)
	}},

	{"PagesOfEventsLeaveOutNothingAndRepeatNothing", func(t *testing.T, s Store) {
		for _, owner := range []string{"alice", "bob", "bob", "alice", "alice", "bob", "alice"} {
			mintNew(t, s, owner, 1)
		}
		setDisabled(t, s, "alice", true)
		setDisabled(t, s, "bob", true)
		for _, user := range []string{"", "alice", "nobody"} {
			whole := events(t, s, user)
			for limit := 1; limit <= 10; limit++ {
				joined := turnEventPages(t, s, user, limit)
				same(t, "pages joined", joined, whole)
				same(t, "their numbers", numbers(joined), numbers(whole))
			}
		}
	}},

	{"EventsBeforeAnyNumberAreThoseWithALowerOne", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		mintNew(t, s, "bob", 1)
		mintNew(t, s, "alice", 1)
		got := events(t, s, "")
		for i, e := range got {
			same(t, "before one", eventPage(t, s, token.EventPage{Before: e.Number, Limit: all}), got[i+1:])
			same(t, "with it", eventPage(t, s, token.EventPage{Before: e.Number + 1, Limit: all}), got[i:])
		}
		same(t, "alice's before bob's", eventPage(t, s, token.EventPage{User: "alice", Before: got[1].Number, Limit: all}), got[2:])
		same(t, "before none yet", eventPage(t, s, token.EventPage{Before: math.MaxInt64, Limit: all}), got)
	}},

	{"EventWrittenMeanwhileDoesNotShiftThePages", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 4)
		whole := events(t, s, "")
		mintNew(t, s, "alice", 1)
		same(t, "second page", eventPage(t, s, token.EventPage{Before: whole[1].Number, Limit: 2}), whole[2:])
	}},

	{"EventsBeforeANegativeNumberAreRefused", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		_, err := s.Events(t.Context(), token.EventPage{Before: -1, Limit: all})
		refused(t, "events", err)
	}},
}

func numbers(events []token.Event) []int64 {
	numbers := make([]int64, 0, len(events))
	for _, e := range events {
		numbers = append(numbers, e.Number)
	}
	return numbers
}

// turnEventPages reads all pages, one after the other.
func turnEventPages(t *testing.T, s Store, user string, limit int) []token.Event {
	t.Helper()
	var joined []token.Event
	page := token.EventPage{User: user, Limit: limit}
	for {
		got := eventPage(t, s, page)
		joined = append(joined, got...)
		if len(got) < limit || len(joined) > all {
			return joined
		}
		page.Before = got[limit-1].Number
	}
}
