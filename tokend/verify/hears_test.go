package verify_test

import (
	"testing"
	"testing/synctest"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestWhoHearsOfNoChangesAsksTheStore, and while that cannot say believes what is not too
// old.
func TestWhoHearsOfNoChangesAsksTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hears := true
		f := newFixture(t, verify.Config{Hears: func() bool { return hears }})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		for _, c := range []struct {
			hears bool
			store lookup
			asks  int
		}{{true, nil, 0}, {false, nil, 1}, {false, nil, 1}, {false, away, 1}, {true, away, 0}} {
			hears = c.hears
			f.source.replace(c.store)
			if n := f.source.asks(func() { f.expect(t, secret, verify.OK) }); n != c.asks {
				t.Errorf("hears %t, store works %t: %d look-ups, want %d", c.hears, c.store == nil, n, c.asks)
			}
		}
	})
}
