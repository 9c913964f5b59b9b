package manage_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

var lives = manage.Lives{Link: 10 * time.Minute, Idle: time.Hour, Absolute: 8 * time.Hour}

// signIns is over the fixture's store and clock.
func (f *fixture) signIns() *manage.SignIns {
	return manage.NewSignIns(f.store, lives, slog.New(slog.DiscardHandler), func() time.Time { return f.now })
}

// signedIn has alice sign in by a link.
func (f *fixture) signedIn(t *testing.T, s *manage.SignIns) string {
	t.Helper()
	link, _, err := s.Link(t.Context(), actor, "alice", false)
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := s.ByLink(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// TestALinkLetsInOnceAndSoon.
func TestALinkLetsInOnceAndSoon(t *testing.T) {
	for _, admin := range []bool{false, true} {
		f := newFixture(t, manage.Limits{})
		s := f.signIns()
		link, until, err := s.Link(t.Context(), actor, "alice", admin)
		if err != nil || !until.Equal(token.Time(begin).Add(lives.Link)) || len(link) != 26 {
			t.Fatalf("%q, good until %s, %v", link, until, err)
		}
		f.now = begin.Add(lives.Link)
		secret, session, err := s.ByLink(t.Context(), link)
		want := manage.Session{Name: "alice", Admin: admin, SignedIn: token.Time(f.now), Until: token.Time(f.now).Add(lives.Idle)}
		same(t, "session", session, want)
		if err != nil || secret == link {
			t.Fatal(err)
		}
		again, err := s.Session(t.Context(), secret)
		same(t, "session, again", again, want)
		if err != nil {
			t.Error(err)
		}
		for what, other := range map[string]string{"the link, again": link, "the session's secret": secret, "nothing": "", "another": token.NewTicketSecret()} {
			if _, _, err := s.ByLink(t.Context(), other); !errors.Is(err, manage.ErrNotSignedIn) {
				t.Errorf("%s: %v", what, err)
			}
		}
		event := f.events(t)[0]
		if event.Action != token.UserLinked || event.User != "alice" || event.Actor != actor || strings.Contains(event.Detail, "admin") != admin || strings.Contains(event.Detail, link) {
			t.Errorf("the trail has %+v", event)
		}
		late, _, err := s.Link(t.Context(), actor, "alice", admin)
		if err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(lives.Link + time.Microsecond)
		if _, _, err := s.ByLink(t.Context(), late); !errors.Is(err, manage.ErrNotSignedIn) {
			t.Errorf("late: %v", err)
		}
		if _, _, err := s.Link(t.Context(), actor, "a b", admin); !errors.Is(err, manage.ErrInvalid) {
			t.Errorf("for nobody: %v", err)
		}
	}
}

// TestASessionEndsIfItIsNotUsed, and after its time if it is.
func TestASessionEndsIfItIsNotUsed(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	s := f.signIns()
	idle, used := f.signedIn(t, s), f.signedIn(t, s)
	is := func(secret string) bool {
		t.Helper()
		_, err := s.Session(t.Context(), secret)
		if err != nil && !errors.Is(err, manage.ErrNotSignedIn) {
			t.Fatal(err)
		}
		return err == nil
	}
	for range 8 {
		f.now = f.now.Add(59 * time.Minute)
		if !is(used) {
			t.Fatalf("it ends after %s, though it is used", f.now.Sub(begin))
		}
	}
	if is(idle) {
		t.Error("it goes on, though it is not used")
	}
	f.now = begin.Add(lives.Absolute)
	if !is(used) {
		t.Error("it ends before its time")
	}
	f.now = f.now.Add(time.Microsecond)
	if is(used) {
		t.Error("it goes on for ever")
	}
}

// TestTheLastMinutesOfASessionCount: it is noted each minute that it is used.
func TestTheLastMinutesOfASessionCount(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	s := f.signIns()
	secret := f.signedIn(t, s)
	for _, c := range []struct{ at, until time.Duration }{{30 * time.Second, time.Hour}, {time.Minute, 61 * time.Minute}, {90 * time.Second, 61 * time.Minute}} {
		f.now = begin.Add(c.at)
		session, err := s.Session(t.Context(), secret)
		if err != nil || !session.Until.Equal(token.Time(begin).Add(c.until)) || !session.SignedIn.Equal(token.Time(begin)) {
			t.Errorf("after %s: %+v, %v", c.at, session, err)
		}
	}
}

// TestWhoSignsOutOrIsDisabledIsNotSignedIn, nor gets in by a link.
func TestWhoSignsOutOrIsDisabledIsNotSignedIn(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	s := f.signIns()
	f.create(t, "alice", "")
	one, other := f.signedIn(t, s), f.signedIn(t, s)
	for range 2 {
		if err := s.SignOut(t.Context(), one); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Session(t.Context(), one); !errors.Is(err, manage.ErrNotSignedIn) {
		t.Errorf("signed out: %v", err)
	}
	if _, err := s.Session(t.Context(), other); err != nil {
		t.Errorf("the other session: %v", err)
	}
	link, _, err := s.Link(t.Context(), actor, "alice", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Disable(t.Context(), actor, "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(t.Context(), other); !errors.Is(err, token.ErrUserDisabled) {
		t.Errorf("disabled: %v", err)
	}
	if _, _, err := s.ByLink(t.Context(), link); !errors.Is(err, token.ErrUserDisabled) {
		t.Errorf("disabled, by a link: %v", err)
	}
}

// TestWhatHasEndedIsRemoved while sessions are looked after.
func TestWhatHasEndedIsRemoved(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	s := f.signIns()
	secret := f.signedIn(t, s)
	f.now = begin.Add(lives.Absolute + time.Minute)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		_, err := f.store.Ticket(t.Context(), token.SessionTicket, token.TicketDigest(secret))
		if errors.Is(err, token.ErrNotFound) {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it is kept for ever")
		}
	}
	end()
	<-ended
}
