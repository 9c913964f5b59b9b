package manage_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// TestARotatedTokenLivesAsLongAgain, under the limits of now, and the other one for the overlap, but no longer than it would have.
func TestARotatedTokenLivesAsLongAgain(t *testing.T) {
	for what, c := range map[string]struct {
		expiry, overlap string
		max             token.Life
		later           time.Duration
		until, expires  time.Duration // from begin; 0: revoked, never
	}{
		"at once":                   {"10", "", 0, time.Hour, 0, 11 * time.Hour},
		"at once, by a nought":      {"10", "0", 0, time.Hour, 0, 11 * time.Hour},
		"with an overlap":           {"10", "2h", 0, time.Hour, 3 * time.Hour, 11 * time.Hour},
		"that never ends":           {"never", "7d", 0, time.Hour, 169 * time.Hour, 0},
		"that ends before":          {"10", "7d", 0, time.Hour, 10 * time.Hour, 11 * time.Hour},
		"under a limit":             {"never", "7d", 24 * 3600, time.Hour, 24 * time.Hour, 25 * time.Hour},
		"under a limit that is far": {"10", "1h", 24 * 3600, time.Hour, 2 * time.Hour, 11 * time.Hour},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, manage.Limits{})
			_, old, err := f.Create(t.Context(), actor, manage.Request{User: "alice", Label: "laptop", Expiry: c.expiry, API: true})
			if err != nil {
				t.Fatal(err)
			}
			f.Apply(manage.Limits{MaxExpiry: c.max})
			f.now = begin.Add(c.later)
			at := func(d time.Duration) time.Time {
				if d == 0 {
					return time.Time{}
				}
				return token.Time(begin).Add(d)
			}
			secret, made, ended, err := f.Rotate(t.Context(), actor, old.ID, c.overlap)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "the new one", made, token.Record{
				ID: made.ID, Digest: secret.Digest(), Owner: "alice", Hint: secret.Hint(), Label: "laptop", API: true, Created: token.Time(f.now), Expires: at(c.expires),
			})
			if c.until == 0 {
				old.Revoked = token.Time(f.now)
			} else {
				old.Expires = at(c.until)
			}
			same(t, "the old one", ended, old)
			same(t, "the new one, kept", f.kept(t, made.Digest), made)
			same(t, "the old one, kept", f.kept(t, old.Digest), old)
			same(t, "forgotten", f.forgotten, []token.Digest{old.Digest})
			events := f.events(t)
			if events[0].Token != made.ID || events[1].Token != old.ID || events[1].Action != token.TokenRotated || !strings.Contains(events[0].Detail, old.ID) || !strings.Contains(events[1].Detail, made.ID) {
				t.Errorf("the trail has %+v", events)
			}
		})
	}
}

// TestWhatIsNotGoodIsNotRotated.
func TestWhatIsNotGoodIsNotRotated(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 2})
	_, revoked := f.create(t, "alice", "")
	if _, err := f.Revoke(t.Context(), actor, revoked.ID); err != nil {
		t.Fatal(err)
	}
	_, expired := f.create(t, "alice", "1s")
	f.now = f.now.Add(time.Hour)
	_, good := f.create(t, "alice", "")
	_, _ = f.create(t, "alice", "")
	imported := foreign("bob", token.Knox5)
	if _, err := f.Import(t.Context(), actor, "SODAR", []token.Record{imported}, false); err != nil {
		t.Fatal(err)
	}
	disabled := func() string {
		_, r := f.create(t, "carol", "")
		if err := f.Disable(t.Context(), actor, "carol"); err != nil {
			t.Fatal(err)
		}
		return r.ID
	}()
	before := len(f.events(t))
	for _, c := range []struct {
		id, overlap string
		want        error
		says        string
	}{
		{"", "", manage.ErrInvalid, "the token's ID is empty"},
		{"nosuchtoken1", "", token.ErrNotFound, `no token has the ID "nosuchtoken1"`},
		{"knox-01234567", "", token.ErrNotFound, "is a token of Knox"},
		{revoked.ID, "", manage.ErrInvalid, "is revoked; make a new one"},
		{expired.ID, "", manage.ErrInvalid, "is expired; make a new one"},
		{f.kept(t, imported.Digest).ID, "", manage.ErrInvalid, "is Knox's"},
		{disabled, "", token.ErrUserDisabled, "carol gets no token"},
		{good.ID, "1h", token.ErrTooMany, "revoke some first"},
		{good.ID, "8d", manage.ErrInvalid, "an overlap of 8d is more than 7d"},
		{good.ID, "never", manage.ErrInvalid, "an overlap of never is more than 7d, or has no end"},
		{good.ID, "soon", manage.ErrInvalid, "the overlap: \"soon\" is no expiry"},
	} {
		if _, _, _, err := f.Rotate(t.Context(), actor, c.id, c.overlap); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, %q: %v, want %s", c.id, c.overlap, err, c.says)
		}
	}
	if n := len(f.events(t)); n != before {
		t.Errorf("%d entries of what was refused", n-before)
	}
	if _, _, _, err := f.Rotate(t.Context(), actor, good.ID, ""); err != nil {
		t.Errorf("a good one: %v", err)
	}
}
