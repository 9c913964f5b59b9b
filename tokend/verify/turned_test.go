package verify_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// turned has tables that become another Knox's between the question for their scheme and the look-up.
type turned struct {
	verify.Knox
	asked atomic.Int64
}

func (k *turned) Scheme() (token.Scheme, error) {
	if k.asked.Add(1)%2 == 1 {
		return token.Knox4, nil
	}
	return k.Knox.Scheme()
}

// TestAChangeOfSchemeInTheMiddleOfALoginIsNoWrongToken.
func TestAChangeOfSchemeInTheMiddleOfALoginIsNoWrongToken(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3")
	secret := f.Mint(f.User("alice"))
	late := newFixture(t, verify.Config{Knox: &turned{Knox: f.knox}, Settings: verify.Settings{TTL: ttl, Refresh: ttl}})
	if got := late.Check(t.Context(), "alice", secret.Reveal()); got.Reason != verify.Unavailable {
		t.Errorf("got %s, %v", got.Reason, got.Detail)
	}
}

// TestTheLoginThatFindsTheDriftBelievesNothing, also before anything else has found it.
func TestTheLoginThatFindsTheDriftBelievesNothing(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", refresh(200*time.Millisecond))
	secret := f.Mint(f.User("alice"))
	if got := f.says(t, secret); got != verify.OK {
		t.Fatal(got)
	}
	f.Exec(`ALTER TABLE tokens_sodarauthtoken RENAME TO away`)
	time.Sleep(300 * time.Millisecond)
	for range 3 {
		if got := f.says(t, secret); got != verify.Unavailable {
			t.Errorf("got %s", got)
		}
	}
}

// TestAShorterRefreshHoldsAtOnce, also where the one before was of an hour.
func TestAShorterRefreshHoldsAtOnce(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", refresh(time.Hour))
	f.run(t)
	if got := f.says(t, f.Mint(f.User("alice"))); got != verify.OK {
		t.Fatal(got)
	}
	f.Apply(verify.Settings{TTL: ttl, Stale: stale, Refresh: time.Second})
	if !within(5*time.Second, func() bool { return f.knox.again.Load() > 0 }) {
		t.Error("nothing is read again")
	}
}

// TestATokenThatIsGivenForANameIsNotLogged by what a rule makes of it either.
func TestATokenThatIsGivenForANameIsNotLogged(t *testing.T) {
	t.Parallel()
	rule, err := token.ParseNameRule("(.+) -> $1@ORG")
	must(err)
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) { c.Settings.Names.Rules = []token.NameRule{rule} })
	secret, cut := f.Mint(f.User("alice")), knoxtest.NewToken().Reveal()[:50]
	if got := f.Check(context.WithoutCancel(t.Context()), cut, secret.Reveal()).Reason; got != verify.WrongUser {
		t.Errorf("got %s", got)
	}
	if log := f.log.String(); strings.Contains(log, cut) || !strings.Contains(log, "by [names] it would have to be") {
		t.Errorf("the log says %s", log)
	}
}

// TestWhatIsCachedOfAnotherSiteIsNotBelieved: the configuration leads elsewhere now.
func TestWhatIsCachedOfAnotherSiteIsNotBelieved(t *testing.T) {
	t.Parallel()
	records := newMemory(t)
	at := func(name string) func(*verify.Config) {
		return func(c *verify.Config) { c.Cache, c.KnoxSite = records, name }
	}
	staging, production := newKnox(t, "sodar-1.3", at("staging")), newKnox(t, "sodar-1.3", at("production"))
	secret := staging.Mint(staging.User("alice"))
	if got := staging.says(t, secret); got != verify.OK {
		t.Fatal(got)
	}
	if got := production.says(t, secret); got != verify.Unknown {
		t.Errorf("at the other: %s", got)
	}
}

// TestManyLoginsAtOnceAskForTheirOwnerOnce, and that the site has no such user is said.
func TestManyLoginsAtOnceAskForTheirOwnerOnce(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", refresh(time.Hour))
	alice, secret := f.User("alice"), f.imported(t, token.Knox4)
	var logins sync.WaitGroup
	for range 300 {
		logins.Go(func() {
			if got := f.says(t, secret); got != verify.OK {
				t.Errorf("got %s", got)
			}
		})
	}
	logins.Wait()
	if n := f.knox.users.Load(); n > 20 { // who comes when the answer has just been given finds it
		t.Errorf("the site was asked for the owner %d times", n)
	}
	f.Exec(`UPDATE users_user SET is_active = false WHERE id = $1`, alice)
	f.Apply(verify.Settings{TTL: ttl, Stale: stale, Refresh: time.Nanosecond})
	for name, want := range map[string]verify.Reason{"alice": verify.UserDisabled, "bob": verify.UserDisabled} {
		if got := f.Check(t.Context(), name, secret.Reveal()); got.Reason != want || got.Detail == nil || !strings.Contains(got.Detail.Error(), "has no active user of the owner's name") {
			t.Errorf("%s is told %s, %v", name, got.Reason, got.Detail)
		}
	}
}

// mute answers of tokens, and hangs where it is asked for users.
type mute struct{ verify.Knox }

func (mute) MayLogIn(ctx context.Context, _ string) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// TestASiteThatHangsIsNotAskedForOwnersAgainAndAgain: after three, no login waits for it long.
func TestASiteThatHangsIsNotAskedForOwnersAgainAndAgain(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) { c.Knox = mute{c.Knox} })
	before, long := f.imported(t, token.Knox4), 0
	for range 8 {
		if took(func() {
			if got := f.says(t, before); got != verify.Unavailable {
				t.Errorf("got %s", got)
			}
		}) > 500*time.Millisecond {
			long++
		}
	}
	if long < 1 || long > 4 {
		t.Errorf("%d of 8 logins waited for it", long)
	}
	if got := f.says(t, f.Mint(f.User("alice"))); got != verify.OK {
		t.Errorf("SODAR's own, which needs no such question: %s", got)
	}
}
