package manage_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

const hour, day = token.Life(3600), 24 * token.Life(3600)

func TestATokenIsKeptByItsDigest(t *testing.T) {
	f := newFixture(t, manage.Limits{DefaultExpiry: day})
	secret, record, err := f.Create(t.Context(), actor, manage.Request{User: "alice", Label: "laptop, at home"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.Parse(secret.Reveal()); err != nil {
		t.Errorf("the secret is %v", err)
	}
	now := token.Time(begin)
	same(t, "record", record, token.Record{
		ID: record.ID, Digest: secret.Digest(), Owner: "alice", Hint: secret.Hint(),
		Label: "laptop, at home", Created: now, Expires: now.Add(24 * time.Hour),
	})
	if len(record.ID) != 12 {
		t.Errorf("the ID is %q", record.ID)
	}
	same(t, "what is kept", f.kept(t, secret.Digest()), record)
}

func TestEveryTokenIsAnother(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	one, first := f.create(t, "alice", "")
	two, second := f.create(t, "alice", "")
	if one.Digest() == two.Digest() || first.ID == second.ID {
		t.Error("two are the same")
	}
}

// TestATokenIsMadeForANameThatComesInWithIt: by [names], those of another may be the ones that open iRODS.
func TestATokenIsMadeForANameThatComesInWithIt(t *testing.T) {
	rule := func(text string) token.NameRule {
		r, err := token.ParseNameRule(text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	f := newFixture(t, manage.Limits{Names: token.Names{Rules: []token.NameRule{rule(`(.+)@B\.ORG -> $1@b.org`), rule("carol -> dave"), rule("dave -> erin")}}})
	for user, owner := range map[string]string{"alice": "", "alice@b.org": "", "alice@B.ORG": "alice@b.org", "carol": "", "dave": "erin", "erin": ""} {
		_, _, err := f.Create(t.Context(), actor, manage.Request{User: user})
		want := fmt.Sprintf("by [names] the iRODS user %s comes in with the tokens of %s, and with no others: make it for %[2]s", user, owner)
		if owner == "" && err != nil || owner != "" && (!errors.Is(err, manage.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", user, err)
		}
	}
}

func TestWhenATokenExpires(t *testing.T) {
	const forever = token.Forever
	f := newFixture(t, manage.Limits{})
	for _, row := range []struct {
		defaults, most token.Life
		asked          string
		want           token.Life
	}{
		{forever, forever, "", forever},
		{hour, forever, "", hour},
		{hour, 2 * hour, "", hour},
		{day, day, "", day},

		{hour, forever, "never", forever},
		{hour, forever, "0", forever},
		{hour, forever, "24", day},
		{hour, forever, "90m", hour + hour/2},
		{hour, forever, "1s", 1},
		{hour, forever, "1000d", 1000 * day},
		{hour, day, "24", day},
		{hour, day, "1d", day},
		{hour, day, "86400s", day},
	} {
		f.Apply(manage.Limits{DefaultExpiry: row.defaults, MaxExpiry: row.most})
		_, record := f.create(t, "alice", row.asked)
		var want time.Time
		if row.want != forever {
			want = token.Time(begin).Add(time.Duration(row.want) * time.Second)
		}
		if !record.Expires.Equal(want) {
			t.Errorf("%q, by default %s, at most %s: got %v, want %v", row.asked, row.defaults, row.most, record.Expires, want)
		}
	}
}

func TestNoMoreActiveTokensThanTheLimit(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 2})
	f.create(t, "alice", "1h")
	_, second := f.create(t, "alice", "2h")
	full := func(when string) {
		t.Helper()
		_, _, err := f.Create(t.Context(), actor, manage.Request{User: "alice"})
		refuses(t, when, err, token.ErrTooMany, `user "alice": too many tokens: 2 are active, 2 are allowed; revoke some first`)
	}
	full("both are active")
	f.create(t, "bob", "") // has his own

	if _, err := f.Revoke(t.Context(), actor, second.ID); err != nil {
		t.Fatal(err)
	}
	f.create(t, "alice", "3h")
	full("one was revoked, and replaced")

	f.now = f.now.Add(time.Hour)
	full("the first one's last moment")
	f.now = f.now.Add(time.Microsecond)
	f.create(t, "alice", "")
	full("one expired, and was replaced")
}

func TestTheLimitHoldsWhenAllAskAtOnce(t *testing.T) {
	const most = 3
	f := newFixture(t, manage.Limits{MaxPerUser: most})
	var all sync.WaitGroup
	outcomes := make(chan error, 4*most)
	for range cap(outcomes) {
		all.Go(func() {
			f.Apply(manage.Limits{MaxPerUser: most})
			_, _, err := f.Create(context.Background(), actor, manage.Request{User: "alice"})
			outcomes <- err
		})
	}
	all.Wait()
	close(outcomes)
	made := 0
	for err := range outcomes {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, token.ErrTooMany):
			t.Error(err)
		}
	}
	if made != most {
		t.Errorf("%d were made, want %d", made, most)
	}
}

func TestADisabledUserGetsNoToken(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice", "")
	if err := f.Disable(t.Context(), actor, "alice"); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.Create(t.Context(), actor, manage.Request{User: "alice"})
	refuses(t, "disabled", err, token.ErrUserDisabled, "alice gets no token before the user is enabled again")
	f.create(t, "bob", "")
	if err := f.Enable(t.Context(), actor, "alice"); err != nil {
		t.Fatal(err)
	}
	f.create(t, "alice", "")
}

func TestNewLimitsHoldForWhatIsMadeFromThenOn(t *testing.T) {
	f := newFixture(t, manage.Limits{DefaultExpiry: day})
	before, _ := f.create(t, "alice", "")
	f.Apply(manage.Limits{DefaultExpiry: hour, MaxExpiry: 2 * hour, MaxPerUser: 2})
	_, after := f.create(t, "alice", "")
	now := token.Time(begin)
	same(t, "made before", f.kept(t, before.Digest()).Expires, now.Add(24*time.Hour))
	same(t, "made after", after.Expires, now.Add(time.Hour))
	_, _, err := f.Create(t.Context(), actor, manage.Request{User: "bob", Expiry: "3h"})
	refuses(t, "too long", err, manage.ErrInvalid, "at most 2h")
	_, _, err = f.Create(t.Context(), actor, manage.Request{User: "alice"})
	refuses(t, "a third", err, token.ErrTooMany, "2 are active, 2 are allowed")
}

func TestNoSecretIsGivenOutThatIsNotKept(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	secret, record, err := f.Create(t.Context(), actor, manage.Request{User: "alice"})
	if err == nil || !strings.HasPrefix(err.Error(), "mint: ") || errors.Is(err, manage.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if secret.Reveal() != "" || record != (token.Record{}) {
		t.Errorf("got a secret of %d characters and %s", len(secret.Reveal()), fmt.Sprint(record))
	}
}
