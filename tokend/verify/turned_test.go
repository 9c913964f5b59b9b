package verify_test

import (
	"context"
	"strings"
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
