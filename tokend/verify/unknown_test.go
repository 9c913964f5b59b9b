package verify_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

func TestAnUnknownTokenIsNotLookedUpAgainForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := token.Mint()
		for _, c := range []struct {
			wait time.Duration
			asks int
		}{
			{wait: 0, asks: 1},
			{wait: 0, asks: 0},
			{wait: 5*time.Second - time.Nanosecond, asks: 0},
			{wait: time.Nanosecond, asks: 1}, // those before did not prolong it
			{wait: 4 * time.Second, asks: 0},
		} {
			time.Sleep(c.wait)
			if n := f.source.asks(func() { f.expect(t, secret, verify.Unknown) }); n != c.asks {
				t.Errorf("%s later: %d look-ups, want %d", c.wait, n, c.asks)
			}
		}
	})
}

// TestAFloodOfUnknownTokensIsBounded looks, at every tenth of them, how many are
// remembered, and that none took the place of a record.
func TestAFloodOfUnknownTokensIsBounded(t *testing.T) {
	const flood, most = 50_000, 12_000 // eviction runs a little behind 10,000
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{Logger: discard})
		known := make([]token.Secret, 100)
		for i := range known {
			known[i] = f.mint(t, token.Record{})
			f.expect(t, known[i], verify.OK)
		}
		f.source.replace(func(context.Context, token.Digest) (token.Record, error) {
			return token.Record{}, token.ErrNotFound
		})
		var sample []token.Secret
		for i := range flood {
			secret := token.Mint()
			f.expect(t, secret, verify.Unknown)
			if i%10 == 0 {
				sample = append(sample, secret)
			}
		}
		asked := f.source.asks(func() {
			for _, secret := range sample {
				f.expect(t, secret, verify.Unknown)
			}
		})
		if remembered := len(sample) - asked; remembered == 0 || remembered > most/10 {
			t.Errorf("%d of %d unknown tokens were remembered, want at most %d", remembered, len(sample), most/10)
		}
		f.source.replace(away)
		if n := f.source.asks(func() {
			for _, secret := range known {
				f.expect(t, secret, verify.OK)
			}
		}); n != 0 {
			t.Errorf("%d records were evicted", n)
		}
	})
}
