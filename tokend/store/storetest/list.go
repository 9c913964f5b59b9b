package storetest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"tokend/tokend/token"
)

var pages = []claim{
	{"RecordsComeNewestFirst", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 3)
		late, early := newRecord("bob"), newRecord("bob")
		late.Created, early.Created = now.Add(1500*time.Millisecond), now.Add(-time.Hour)
		mint(t, s, late, early)
		same(t, "records", records(t, s, token.Page{Limit: all}), []token.Record{own[2], late, own[1], own[0], early})
		same(t, "bob's", records(t, s, token.Page{Owner: "bob", Limit: all}), []token.Record{late, early})
		same(t, "nobody's", records(t, s, token.Page{Owner: "nobody", Limit: all}), []token.Record{})
	}},

	{"RecordsTellWhetherTheOwnerIsDisabled", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		setDisabled(t, s, "alice", true)
		r.OwnerDisabled = true
		same(t, "records", records(t, s, token.Page{Limit: all}), []token.Record{r})
	}},

	{"PageHoldsAsManyAsAsked", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 4)
		slices.Reverse(own)
		for limit := 1; limit <= 5; limit++ {
			same(t, "page", records(t, s, token.Page{Limit: limit}), own[:min(limit, 4)])
		}
	}},

	{"PagesOfEqualTimesLeaveOutNothingAndRepeatNothing", func(t *testing.T, s Store) {
		var own []token.Record
		for i := range 13 {
			r := newRecord([]string{"alice", "bob"}[i%2])
			r.Created = now.Add(time.Duration(i/5) * time.Microsecond)
			own = append(own, r)
		}
		mint(t, s, own...)
		slices.SortFunc(own, func(a, b token.Record) int {
			return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
		})
		for limit := 1; limit <= 14; limit++ {
			for _, owner := range []string{"", "alice"} {
				want := slices.DeleteFunc(slices.Clone(own), func(r token.Record) bool { return owner != "" && r.Owner != owner })
				same(t, "pages joined", turnPages(t, s, owner, limit), want)
			}
		}
	}},

	{"PageAfterTheOldestIsEmpty", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 2)
		same(t, "page", records(t, s, token.Page{After: own[0].ID, Limit: all}), []token.Record{})
	}},

	{"TokenMintedMeanwhileDoesNotShiftThePages", func(t *testing.T, s Store) {
		own := mintNew(t, s, "alice", 4)
		first := records(t, s, token.Page{Limit: 2})
		newest := newRecord("alice")
		newest.Created = now.Add(time.Hour)
		mint(t, s, newest)
		revoke(t, s, token.Selection{ID: first[1].ID}, now)
		same(t, "second page", records(t, s, token.Page{After: first[1].ID, Limit: 2}), []token.Record{own[1], own[0]})
	}},

	{"PageAfterAnUnknownTokenIsNotFound", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 2)
		bobs := mintNew(t, s, "bob", 1)
		for _, page := range []token.Page{
			{After: "unknown", Limit: all},
			{Owner: "alice", After: "unknown", Limit: all},
			{Owner: "alice", After: bobs[0].ID, Limit: all}, // it is not alice's to know
		} {
			_, err := s.Records(t.Context(), page)
			fails(t, "records", err, token.ErrNotFound)
		}
	}},
}

// turnPages reads all pages, one after the other.
func turnPages(t *testing.T, s Store, owner string, limit int) []token.Record {
	t.Helper()
	var joined []token.Record
	page := token.Page{Owner: owner, Limit: limit}
	for {
		got := records(t, s, page)
		joined = append(joined, got...)
		if len(got) < limit || len(joined) > all {
			return joined
		}
		page.After = got[limit-1].ID
	}
}

var listings = []claim{
	{"LimitBelowOneIsRefused", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		for _, limit := range []int{0, -1} {
			_, err := s.Records(t.Context(), token.Page{Limit: limit})
			refused(t, "records", err)
			_, err = s.Events(t.Context(), token.EventPage{Limit: limit})
			refused(t, "events", err)
		}
	}},

	{"UsersComeSortedByTheBytesOfTheirNames", func(t *testing.T, s Store) {
		for _, name := range []string{"bob", "a_b", "Zoe", "a.b", "alice", "Alice", "a-b", "ab", "9lives"} {
			mintNew(t, s, name, 1)
		}
		var names []string
		for _, u := range users(t, s) {
			names = append(names, u.Name)
		}
		same(t, "names", names, []string{"9lives", "Alice", "Zoe", "a-b", "a.b", "a_b", "ab", "alice", "bob"})
	}},

	{"UsersCountActiveTokensAtTheGivenTime", func(t *testing.T, s Store) {
		revoked, expiring, forever := newRecord("alice"), newRecord("alice"), newRecord("alice")
		expiring.Expires = now.Add(time.Second)
		mint(t, s, revoked, expiring, forever, newRecord("bob"))
		revoke(t, s, token.Selection{ID: revoked.ID}, now)
		for _, c := range []struct {
			after time.Duration
			alice int
		}{{0, 2}, {time.Second, 2}, {time.Second + time.Microsecond, 1}} {
			got, err := s.Users(t.Context(), token.UserPage{Limit: all}, now.Add(c.after), token.Forever)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "users after "+c.after.String(), got, []token.User{{Name: "alice", Tokens: c.alice}, {Name: "bob", Tokens: 1}})
		}
	}},

	{"UsersCountNoTokenPastTheLongestLife", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		for _, c := range []struct {
			after time.Duration
			want  int
		}{{time.Hour, 1}, {time.Hour + time.Microsecond, 0}} {
			got, err := s.Users(t.Context(), token.UserPage{Limit: all}, now.Add(c.after), 3600)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "users after "+c.after.String(), got, []token.User{{Name: "alice", Tokens: c.want}})
		}
	}},

	{"UserWithoutActiveTokensIsListed", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		revoke(t, s, token.Selection{Owner: "alice"}, now)
		same(t, "users", users(t, s), []token.User{{Name: "alice"}})
	}},
}
