package manage_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

// fill keeps so many tokens for a user, each a second younger than the one
// before, and returns their IDs, newest first.
func (f *fixture) fill(t *testing.T, user string, count int) []string {
	t.Helper()
	ids := make([]string, count)
	for i := range ids {
		f.now = f.now.Add(time.Second)
		_, record := f.create(t, user, "")
		ids[count-1-i] = record.ID
	}
	return ids
}

func (f *fixture) list(t *testing.T, p token.Page) []string {
	t.Helper()
	views, err := f.List(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, 0, len(views))
	for _, v := range views {
		ids = append(ids, v.ID)
	}
	return ids
}

func TestAListComesInPages(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	alices, bobs := f.fill(t, "alice", 3), f.fill(t, "bob", 2)
	all := slices.Concat(bobs, alices)
	for _, row := range []struct {
		page token.Page
		want []string
	}{
		{token.Page{}, all},
		{token.Page{Limit: 2}, all[:2]},
		{token.Page{Limit: 2, After: all[1]}, all[2:4]},
		{token.Page{Limit: 2, After: all[3]}, all[4:]},
		{token.Page{Limit: 2, After: all[4]}, nil},
		{token.Page{Owner: "alice"}, alices},
		{token.Page{Owner: "alice", Limit: 1, After: alices[0]}, alices[1:2]},
		{token.Page{Owner: "nobody"}, nil},
	} {
		same(t, fmt.Sprintf("%+v", row.page), f.list(t, row.page), row.want)
	}
	views, err := f.List(t.Context(), token.Page{Owner: "nobody"})
	if views == nil || err != nil {
		t.Errorf("no tokens: got %#v, %v; want an empty list", views, err)
	}
}

func TestAnUnknownTokenToGoOnAfterIsNamed(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	alices := f.fill(t, "alice", 1)
	for _, page := range []token.Page{{After: "nosuchtoken1"}, {Owner: "bob", After: alices[0]}} {
		_, err := f.List(t.Context(), page)
		refuses(t, fmt.Sprintf("%+v", page), err, token.ErrNotFound, `not found: the list has no token with the ID "`+page.After+`"`)
	}
}

// noting is the real store, and notes how many entries it is asked for.
type noting struct {
	*sqlite.Store
	limit int
}

func (n *noting) Records(ctx context.Context, p token.Page) ([]token.Record, error) {
	n.limit = p.Limit
	return n.Store.Records(ctx, p)
}

func (n *noting) Events(ctx context.Context, p token.EventPage) ([]token.Event, error) {
	n.limit = p.Limit
	return n.Store.Events(ctx, p)
}

func TestAPageHasAThousandEntriesAtMost(t *testing.T) {
	store := &noting{Store: newFixture(t, manage.Limits{}).store}
	m := manage.New(manage.Config{Store: store, Logger: discard})
	for _, row := range []struct{ asked, want int }{
		{-1, 1000}, {0, 1000}, {1, 1}, {999, 999}, {1000, 1000}, {1001, 1000}, {1 << 40, 1000},
	} {
		if _, err := m.List(t.Context(), token.Page{Limit: row.asked}); err != nil || store.limit != row.want {
			t.Errorf("tokens, limit %d: got %d, %v; want %d", row.asked, store.limit, err, row.want)
		}
		if _, err := m.Events(t.Context(), token.EventPage{Limit: row.asked}); err != nil || store.limit != row.want {
			t.Errorf("events, limit %d: got %d, %v; want %d", row.asked, store.limit, err, row.want)
		}
	}
}

func TestATokenIsShownUnderTheLimitOfTheSite(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice", "never")
	f.create(t, "bob", "2h")
	_, revoked := f.create(t, "carol", "1h")
	if _, err := f.Revoke(t.Context(), actor, revoked.ID); err != nil {
		t.Fatal(err)
	}
	const active, expired = token.Active, token.Expired
	type shown struct {
		State   token.State
		Expires time.Duration // from its creation; 0: never
	}
	for _, row := range []struct {
		most       token.Life
		age        time.Duration
		alice, bob shown
	}{
		{token.Forever, 2 * time.Hour, shown{active, 0}, shown{active, 2 * time.Hour}},
		{token.Forever, 2*time.Hour + time.Microsecond, shown{active, 0}, shown{expired, 2 * time.Hour}},
		{day, 3 * time.Hour, shown{active, 24 * time.Hour}, shown{expired, 2 * time.Hour}},
		{hour, time.Hour, shown{active, time.Hour}, shown{active, time.Hour}},
		{hour, time.Hour + time.Microsecond, shown{expired, time.Hour}, shown{expired, time.Hour}},
	} {
		f.Apply(manage.Limits{MaxExpiry: row.most})
		f.now = begin.Add(row.age)
		views, err := f.List(t.Context(), token.Page{})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]shown{}
		for _, v := range views {
			s := shown{State: v.State}
			if !v.Expires.IsZero() {
				s.Expires = v.Expires.Sub(v.Created)
			}
			got[v.Owner] = s
			same(t, "view", f.View(v.Record), v)
		}
		want := map[string]shown{"alice": row.alice, "bob": row.bob, "carol": {token.Revoked, time.Hour}}
		same(t, fmt.Sprintf("at most %s, after %s", row.most, row.age), got, want)
	}
}

// TestATokenPastTheLimitOfTheSiteIsNotActive: it neither stands in the way of a
// new one nor is counted as its owner's.
func TestATokenPastTheLimitOfTheSiteIsNotActive(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 1})
	f.create(t, "alice", "")
	f.Apply(manage.Limits{DefaultExpiry: 3600, MaxExpiry: 3600, MaxPerUser: 1})
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{time.Hour, 1}, {time.Hour + time.Microsecond, 0}} {
		f.now = begin.Add(c.after)
		users, err := f.Users(t.Context(), token.UserPage{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "users after "+c.after.String(), users, []token.User{{Name: "alice", Tokens: c.want}})
	}
	f.create(t, "alice", "")
}

func TestUsersAreThoseWhoEverHadAToken(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.create(t, "bob", "1h")
	f.create(t, "bob", "")
	_, record := f.create(t, "alice", "")
	if _, err := f.Revoke(t.Context(), actor, record.ID); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Hour + time.Microsecond)
	users, err := f.Users(t.Context(), token.UserPage{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "users", users, []token.User{{Name: "alice"}, {Name: "bob", Tokens: 1}})
}

func TestTheAuditTrailIsReadFromItsEnd(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.fill(t, "alice", 2)
	f.fill(t, "bob", 1)
	all := f.events(t)
	for _, row := range []struct {
		page token.EventPage
		want []token.Event
	}{
		{token.EventPage{}, all},
		{token.EventPage{Limit: 2}, all[:2]},
		{token.EventPage{Limit: 2, Before: all[1].Number}, all[2:]},
		{token.EventPage{Before: all[2].Number}, nil},
		{token.EventPage{User: "alice"}, all[1:]},
		{token.EventPage{User: "alice", Limit: 1}, all[1:2]},
		{token.EventPage{User: "alice", Before: all[1].Number}, all[2:]},
		{token.EventPage{User: "bob", Limit: 5}, all[:1]},
		{token.EventPage{User: "nobody"}, nil},
	} {
		events, err := f.Events(t.Context(), row.page)
		if err != nil {
			t.Error(err)
		}
		same(t, fmt.Sprintf("%+v", row.page), events, row.want)
	}
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, list := f.List(ctx, token.Page{})
	_, users := f.Users(ctx, token.UserPage{})
	_, events := f.Events(ctx, token.EventPage{})
	for doing, err := range map[string]error{"list tokens: ": list, "list users: ": users, "read the audit trail: ": events} {
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), doing) {
			t.Errorf("%sgot %v", doing, err)
		}
	}
}
