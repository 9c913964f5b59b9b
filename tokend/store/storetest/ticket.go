package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// account is one of a provider.
func account(name, subject string) token.Account {
	return token.Account{Name: name, Issuer: "https://id.example.org", Subject: subject, Created: now}
}

var bindings = []claim{
	{"ANameIsBoundToTheFirstWhoSignsIn", func(t *testing.T, s Store) {
		alice := account("alice", "1")
		bind := func(a, want token.Account) {
			t.Helper()
			got, err := s.Bind(t.Context(), a, told(token.UserBound))
			fails(t, "bind "+a.Name, err, nil)
			same(t, "bind "+a.Name, got, want)
		}
		bind(alice, alice)
		again, bob := alice, account("bob", "1")
		again.Created, bob.Issuer = now.Add(time.Hour), "https://other.example.org"
		bind(again, alice)
		for _, other := range []token.Account{account("alice", "2"), account("bob", "1")} {
			_, err := s.Bind(t.Context(), other, told(token.UserBound))
			taken, is := errors.AsType[token.TakenError](err)
			if !is {
				t.Errorf("bind %+v: %v", other, err)
			}
			same(t, "which is there", taken.By, alice)
		}
		bind(bob, bob)
		for _, empty := range []token.Account{account("", "3"), account("carol", ""), {Name: "carol", Subject: "3", Created: now}} {
			_, err := s.Bind(t.Context(), empty, told(token.UserBound))
			refused(t, fmt.Sprintf("bind %+v", empty), err)
		}
		same(t, "users", users(t, s), []token.User{{Name: "alice"}, {Name: "bob"}})
		same(t, "events", events(t, s, ""), []token.Event{of(told(token.UserBound), "bob", ""), of(told(token.UserBound), "alice", "")})
		got, err := s.Account(t.Context(), "alice")
		fails(t, "by name", err, nil)
		same(t, "by name", got, alice)
		got, err = s.AccountOf(t.Context(), alice.Issuer, "1")
		fails(t, "by subject", err, nil)
		same(t, "by subject", got, alice)
		_, err = s.AccountOf(t.Context(), alice.Issuer, "2")
		fails(t, "by another subject", err, token.ErrNotFound)
		_, err = s.Account(t.Context(), "carol")
		fails(t, "by another name", err, token.ErrNotFound)
	}},

	{"ANameThatIsUnboundMayBeBoundAnew", func(t *testing.T, s Store) {
		unbind := func() error { return s.Unbind(t.Context(), "alice", told(token.UserUnbound)) }
		fails(t, "before", unbind(), token.ErrNotFound)
		_, err := s.Bind(t.Context(), account("alice", "1"), told(token.UserBound))
		fails(t, "bind", err, nil)
		fails(t, "unbind", unbind(), nil)
		fails(t, "again", unbind(), token.ErrNotFound)
		_, err = s.Bind(t.Context(), account("alice", "2"), told(token.UserBound))
		fails(t, "to another", err, nil)
		same(t, "actions", actions(t, s, "alice"), []token.Action{token.UserBound, token.UserUnbound, token.UserBound})
	}},

	{"NoDisabledUserIsBound", func(t *testing.T, s Store) {
		mintNew(t, s, "alice", 1)
		setDisabled(t, s, "alice", true)
		_, err := s.Bind(t.Context(), account("alice", "1"), told(token.UserBound))
		fails(t, "bind", err, token.ErrUserDisabled)
		setDisabled(t, s, "alice", false)
		_, err = s.Bind(t.Context(), account("alice", "1"), told(token.UserBound))
		fails(t, "bind", err, nil)
		setDisabled(t, s, "alice", true)
		_, err = s.Bind(t.Context(), account("alice", "1"), told(token.UserBound))
		fails(t, "who was bound before", err, token.ErrUserDisabled)
	}},

	{"OfManyAtOnceOneIsBound", func(t *testing.T, s Store) {
		var all sync.WaitGroup
		won := make(chan string, 8)
		for i := range cap(won) {
			all.Go(func() {
				if _, err := s.Bind(t.Context(), account("alice", strconv.Itoa(i)), told(token.UserBound)); err == nil {
					won <- strconv.Itoa(i)
				}
			})
		}
		all.Wait()
		close(won)
		first := <-won
		if second, more := <-won; more {
			t.Errorf("both %s and %s are bound", first, second)
		}
		kept, err := s.Account(t.Context(), "alice")
		fails(t, "the account", err, nil)
		same(t, "the subject", kept.Subject, first)
	}},
}

func newTicket(kind token.TicketKind) token.Ticket {
	return token.Ticket{
		Digest: token.TicketDigest(token.NewTicketSecret()), Kind: kind, Owner: "alice", Ref: "ref", Data: []byte(`{"a": "ü'\"\\"}`),
		Created: now, Expires: now.Add(time.Hour),
	}
}

func put(t *testing.T, s Store, tickets ...token.Ticket) {
	t.Helper()
	for _, k := range tickets {
		if err := s.PutTicket(t.Context(), k, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// ticket reads one that is there.
func ticket(t *testing.T, s Store, k token.Ticket) token.Ticket {
	t.Helper()
	got, err := s.Ticket(t.Context(), k.Kind, k.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func gone(t *testing.T, s Store, what string, k token.Ticket) {
	t.Helper()
	_, err := s.Ticket(t.Context(), k.Kind, k.Digest)
	fails(t, what, err, token.ErrNotFound)
}

var tickets = []claim{
	{"ATicketComesBackAsItIs", func(t *testing.T, s Store) {
		k, plain := newTicket(token.SessionTicket), newTicket(token.SessionTicket)
		plain.Owner, plain.Ref, plain.Data = "", "", nil
		event := of(told(token.UserLinked), "alice", "")
		if err := s.PutTicket(t.Context(), k, 0, event, event); err != nil {
			t.Fatal(err)
		}
		put(t, s, plain)
		same(t, "ticket", ticket(t, s, k), k)
		same(t, "a plain one", ticket(t, s, plain), plain)
		same(t, "events", events(t, s, ""), []token.Event{event, event})
		k.Kind = token.LinkTicket
		gone(t, s, "of another kind", k)
		k.Kind = token.SessionTicket
		fails(t, "a second one", s.PutTicket(t.Context(), k, 0), store.ErrExists)
		for what, change := range map[string]func(*token.Ticket){
			"no kind": func(k *token.Ticket) { k.Kind = "" }, "no digest": func(k *token.Ticket) { k.Digest = token.Digest{} },
			"no end": func(k *token.Ticket) { k.Expires = time.Time{} }, "no beginning": func(k *token.Ticket) { k.Created = time.Time{} },
		} {
			k := newTicket(token.SessionTicket)
			change(&k)
			refused(t, what, s.PutTicket(t.Context(), k, 0))
		}
	}},

	{"ATicketTellsThatTheOwnerIsDisabled", func(t *testing.T, s Store) {
		k := newTicket(token.SessionTicket)
		put(t, s, k)
		mintNew(t, s, "alice", 1)
		setDisabled(t, s, "alice", true)
		k.OwnerDisabled = true
		same(t, "ticket", ticket(t, s, k), k)
	}},

	{"NoMoreTicketsArePutThanThereMayBe", func(t *testing.T, s Store) {
		ended, last, other := newTicket(token.DeviceTicket), newTicket(token.DeviceTicket), newTicket(token.LinkTicket)
		ended.Expires, last.Expires = now.Add(-time.Microsecond), now
		put(t, s, ended, last, other)
		for _, want := range []error{nil, token.ErrTooMany} {
			fails(t, "put", s.PutTicket(t.Context(), newTicket(token.DeviceTicket), 2), want)
		}
	}},

	{"ATicketIsFoundByItsReference", func(t *testing.T, s Store) {
		old, k, other, none := newTicket(token.DeviceTicket), newTicket(token.DeviceTicket), newTicket(token.SessionTicket), newTicket(token.DeviceTicket)
		old.Created, none.Ref = now.Add(-time.Second), ""
		put(t, s, old, k, other, none)
		got, err := s.TicketByRef(t.Context(), token.DeviceTicket, "ref")
		fails(t, "by ref", err, nil)
		same(t, "by ref", got, k)
		for _, ref := range []string{"", "REF", "re"} {
			_, err = s.TicketByRef(t.Context(), token.DeviceTicket, ref)
			fails(t, "by "+ref, err, token.ErrNotFound)
		}
	}},

	{"ATicketIsChangedByWhoHasReadIt", func(t *testing.T, s Store) {
		k := newTicket(token.DeviceTicket)
		put(t, s, k)
		mine, others := ticket(t, s, k), ticket(t, s, k)
		mine.Owner, mine.Ref, mine.Data, mine.Expires = "bob", "other", []byte(`{}`), now.Add(time.Minute+999*time.Nanosecond)
		fails(t, "change", s.ChangeTicket(t.Context(), mine), nil)
		fails(t, "by another", s.ChangeTicket(t.Context(), others), token.ErrChanged)
		mine.Version, mine.Expires = mine.Version+1, token.Time(mine.Expires)
		same(t, "ticket", ticket(t, s, k), mine)
		fails(t, "again", s.ChangeTicket(t.Context(), mine), nil)
		fails(t, "one that there is not", s.ChangeTicket(t.Context(), newTicket(token.DeviceTicket)), token.ErrChanged)
		wrong := ticket(t, s, k)
		wrong.Kind = token.LinkTicket
		fails(t, "as another kind", s.ChangeTicket(t.Context(), wrong), token.ErrChanged)
	}},

	{"ATicketIsTakenOnce", func(t *testing.T, s Store) {
		k, other := newTicket(token.LinkTicket), newTicket(token.LinkTicket)
		put(t, s, k, other)
		_, err := s.TakeTicket(t.Context(), token.SessionTicket, k.Digest)
		fails(t, "as another kind", err, token.ErrNotFound)
		var all sync.WaitGroup
		taken := make(chan token.Ticket, 8)
		for range cap(taken) {
			all.Go(func() {
				if got, err := s.TakeTicket(t.Context(), token.LinkTicket, k.Digest); err == nil {
					taken <- got
				}
			})
		}
		all.Wait()
		if len(taken) != 1 {
			t.Fatalf("it is taken %d times", len(taken))
		}
		same(t, "taken", <-taken, k)
		gone(t, s, "taken", k)
		same(t, "another", ticket(t, s, other), other)
	}},

	{"SelectedTicketsEnd", func(t *testing.T, s Store) {
		var all []token.Ticket
		for i, kind := range []token.TicketKind{token.SessionTicket, token.SessionTicket, token.SessionTicket, token.DeviceTicket} {
			k := newTicket(kind)
			k.Owner, k.Ref = []string{"alice", "bob", "alice", "alice"}[i], []string{"1", "1", "2", "1"}[i]
			all = append(all, k)
		}
		for _, c := range []struct {
			selection token.TicketSelection
			want      []int // that are left
		}{
			{token.TicketSelection{Kind: token.SessionTicket, Owner: "alice"}, []int{1, 3}},
			{token.TicketSelection{Kind: token.SessionTicket, Ref: "1"}, []int{2, 3}},
			{token.TicketSelection{Kind: token.SessionTicket, Owner: "alice", Ref: "1"}, []int{1, 2, 3}},
			{token.TicketSelection{Kind: token.LinkTicket, Owner: "alice"}, []int{0, 1, 2, 3}},
		} {
			put(t, s, all...)
			n, err := s.EndTickets(t.Context(), c.selection)
			fails(t, "end", err, nil)
			same(t, fmt.Sprint(c.selection), n, int64(len(all)-len(c.want)))
			for i, k := range all {
				if !slices.Contains(c.want, i) {
					gone(t, s, fmt.Sprint(c.selection, i), k)
				} else if _, err := s.TakeTicket(t.Context(), k.Kind, k.Digest); err != nil {
					t.Errorf("%v: %d: %v", c.selection, i, err)
				}
			}
		}
		for _, wide := range []token.TicketSelection{{}, {Kind: token.SessionTicket}, {Owner: "alice"}} {
			_, err := s.EndTickets(t.Context(), wide)
			refused(t, fmt.Sprint(wide), err)
		}
	}},

	{"TicketsThatEndedArePruned", func(t *testing.T, s Store) {
		ended, last := newTicket(token.SessionTicket), newTicket(token.LinkTicket)
		ended.Expires = now.Add(-time.Microsecond)
		last.Expires = now
		put(t, s, ended, last)
		n, err := s.PruneTickets(t.Context(), now)
		fails(t, "prune", err, nil)
		same(t, "pruned", n, int64(1))
		gone(t, s, "ended", ended)
		same(t, "the last", ticket(t, s, last), last)
	}},

	{"TheKeyOfTheCookiesStays", func(t *testing.T, s Store) {
		var all sync.WaitGroup
		keys := make(chan [32]byte, 8)
		for range cap(keys) {
			all.Go(func() {
				key, err := s.WebKey(t.Context())
				if err != nil {
					t.Error(err)
				}
				keys <- key
			})
		}
		all.Wait()
		first := <-keys
		if first == [32]byte{} || strings.Trim(string(first[:]), string(first[:1])) == "" {
			t.Error("it is no random key")
		}
		for range cap(keys) - 1 {
			if <-keys != first {
				t.Error("there are two")
			}
		}
	}},
}
