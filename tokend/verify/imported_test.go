package verify_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestImportedTokensOpenWithoutKnox, of either scheme, at one look-up each while all are of one.
func TestImportedTokensOpenWithoutKnox(t *testing.T) {
	t.Parallel()
	for _, scheme := range []token.Scheme{token.Knox4, token.Knox5} {
		f := newFixture(t, verify.Config{KnoxPrefix: ""})
		var secrets []token.Knox
		var records []token.Record
		for range 20 {
			secret := knoxtest.NewToken()
			digest, _ := secret.Digest(scheme)
			secrets = append(secrets, secret)
			records = append(records, token.Record{ID: token.NewID(), Digest: digest, Scheme: scheme, Owner: "alice", Hint: secret.Hint(), Created: time.Now()})
		}
		_, err := f.source.Adopt(t.Context(), records, token.Event{At: time.Now()})
		must(err)
		for round, most := range []int{21, 0} { // the first login doesn't know yet which
			if n := f.source.asks(func() {
				for _, secret := range secrets {
					if got := f.Check(t.Context(), "alice", secret.Reveal()); got.Reason != verify.OK {
						t.Fatalf("%s, round %d: %s", scheme, round, got.Reason)
					}
				}
			}); n > most {
				t.Errorf("%s, round %d: %d look-ups for %d tokens", scheme, round, n, len(secrets))
			}
		}
		if got := f.Check(t.Context(), "bob", secrets[0].Reveal()).Reason; got != verify.WrongUser {
			t.Errorf("%s: bob is told %s", scheme, got)
		}
		if got := f.Check(t.Context(), "alice", knoxtest.NewToken().Reveal()).Reason; got != verify.Unknown {
			t.Errorf("%s: one that there is not: %s", scheme, got)
		}
		digest, _ := secrets[0].Digest(scheme)
		_, err = f.source.Revoke(t.Context(), token.Selection{Digest: digest}, time.Now(), token.Event{At: time.Now()})
		must(err)
		must(f.Forget(t.Context(), digest))
		if got := f.Check(t.Context(), "alice", secrets[0].Reveal()).Reason; got != verify.Revoked {
			t.Errorf("%s, revoked: %s", scheme, got)
		}
	}
}

// TestWarmImportedTokensOfEitherSchemeCostNoLookup, in turns.
func TestWarmImportedTokensOfEitherSchemeCostNoLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{Settings: verify.Settings{TTL: time.Hour, Stale: time.Hour}})
		secrets := map[token.Scheme]token.Knox{token.Knox4: knoxtest.NewToken(), token.Knox5: knoxtest.NewToken()}
		for scheme, secret := range secrets {
			digest, _ := secret.Digest(scheme)
			_, err := f.source.Adopt(t.Context(), []token.Record{{ID: token.NewID(), Digest: digest, Scheme: scheme, Owner: "alice", Hint: secret.Hint(), Created: time.Now()}}, token.Event{At: time.Now()})
			must(err)
		}
		logIn := func() {
			for scheme, secret := range secrets {
				if got := f.Check(t.Context(), "alice", secret.Reveal()).Reason; got != verify.OK {
					t.Errorf("%s: %s", scheme, got)
				}
			}
		}
		logIn()
		time.Sleep(time.Minute) // what is unknown is forgotten
		if n := f.source.asks(func() { logIn(); logIn() }); n != 0 {
			t.Errorf("%d look-ups, want none", n)
		}
	})
}

// TestATokenOpensByItsOwnSchemeOnly, beside a site and without one, cold and from the cache.
func TestATokenOpensByItsOwnSchemeOnly(t *testing.T) {
	t.Parallel()
	beside := newKnox(t, "sodar-1.3")
	beside.User("alice")
	for where, f := range map[string]*fixture{"beside a site": beside.fixture, "without one": newFixture(t, verify.Config{})} {
		for scheme, other := range map[token.Scheme]token.Scheme{token.Knox4: token.Knox5, token.Knox5: token.Knox4} {
			secret := knoxtest.NewToken()
			digest, _ := secret.Digest(other)
			_, err := f.source.Adopt(t.Context(), []token.Record{{ID: token.NewID(), Digest: digest, Scheme: scheme, Owner: "alice", Hint: "x", Created: time.Now()}}, token.Event{At: time.Now()})
			must(err)
			for round := range 3 {
				if got := f.Check(t.Context(), "alice", secret.Reveal()).Reason; got != verify.Unknown {
					t.Errorf("%s, of %s, round %d: it is told %s", where, scheme, round+1, got)
				}
			}
		}
	}
}

// hangs answers nothing in its time.
func hangs(ctx context.Context, _ token.Digest) (token.Record, error) {
	<-ctx.Done()
	return token.Record{}, ctx.Err()
}

// TestImportedTokensOfEitherSchemeAreBelieved while the store cannot say, also by a daemon that has had
// none of that scheme yet, and at once or as late as a login may wait.
func TestImportedTokensOfEitherSchemeAreBelieved(t *testing.T) {
	t.Parallel()
	for what, fails := range map[string]func(context.Context, token.Digest) (token.Record, error){"is away": away, "hangs": hangs} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			shared := newMemory(t) // as Redis is
			settings := verify.Settings{TTL: 100 * time.Millisecond, Stale: time.Minute}
			first, second := newFixture(t, verify.Config{Cache: shared, Settings: settings}), newFixture(t, verify.Config{Cache: shared, Settings: settings})
			secrets := map[token.Scheme]token.Knox{token.Knox4: knoxtest.NewToken(), token.Knox5: knoxtest.NewToken()}
			for scheme, secret := range secrets {
				digest, _ := secret.Digest(scheme)
				_, err := first.source.Adopt(t.Context(), []token.Record{{ID: token.NewID(), Digest: digest, Scheme: scheme, Owner: "alice", Hint: secret.Hint(), Created: time.Now()}}, token.Event{At: time.Now()})
				must(err)
				if got := first.Check(t.Context(), "alice", secret.Reveal()).Reason; got != verify.OK {
					t.Fatalf("%s: %s", scheme, got)
				}
			}
			time.Sleep(200 * time.Millisecond) // by then the store is asked
			for _, f := range []*fixture{first, second} {
				f.source.replace(fails)
				if got := f.Check(t.Context(), "alice", knoxtest.NewToken().Reveal()).Reason; got != verify.Unavailable {
					t.Errorf("one that may be there: %s", got)
				}
				for range 2 {
					for scheme, secret := range secrets {
						ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
						if got := f.Check(ctx, "alice", secret.Reveal()); got.Reason != verify.OK {
							t.Errorf("%s: %s, %v", scheme, got.Reason, got.Detail)
						}
						cancel()
					}
				}
			}
		})
	}
}
