package verify_test

import (
	"testing"
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

// TestATokenOpensByItsOwnSchemeOnly.
func TestATokenOpensByItsOwnSchemeOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, verify.Config{})
	secret := knoxtest.NewToken()
	digest, _ := secret.Digest(token.Knox5)
	_, err := f.source.Adopt(t.Context(), []token.Record{{ID: "x", Digest: digest, Scheme: token.Knox4, Owner: "alice", Hint: "x", Created: time.Now()}}, token.Event{At: time.Now()})
	must(err)
	if got := f.Check(t.Context(), "alice", secret.Reveal()).Reason; got != verify.Unknown {
		t.Errorf("it is told %s", got)
	}
}
