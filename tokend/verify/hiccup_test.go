package verify_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// hiccup is a real cache that fails so many times.
type hiccup struct {
	*cache.Memory
	times int
}

func (h *hiccup) Get(ctx context.Context, key string) (cache.Entry, error) {
	if h.times > 0 {
		h.times--
		return cache.Entry{}, errBroken
	}
	return h.Memory.Get(ctx, key)
}

// TestACacheThatFailsForAMomentIsAskedAgain when the store cannot say either.
func TestACacheThatFailsForAMomentIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		times  int
		age    time.Duration
		store  lookup
		buried bool
		end    time.Duration // of [cache] stale, from then on; 0: as it was
		want   verify.Reason
	}{
		{times: 1, store: nil, want: verify.OK},
		{times: 1, store: away, want: verify.OK},
		{times: 1, age: ttl + stale - 200*time.Millisecond, store: away, want: verify.OK},
		{times: 1, age: ttl + stale, store: away, want: verify.Unavailable},
		{times: 1, age: ttl + 2, end: 1, store: away, want: verify.Unavailable},
		{times: 1, store: away, buried: true, want: verify.Unavailable},
		{times: 4, store: away, want: verify.OK},
		{times: 5, store: away, want: verify.Unavailable},
		{times: 4, store: hang, want: verify.OK},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := &hiccup{Memory: newMemory(t)}
			f := newFixture(t, verify.Config{Cache: h})
			secret := f.mint(t, token.Record{})
			f.expect(t, secret, verify.OK)
			time.Sleep(c.age)
			if c.buried {
				if err := f.Forget(t.Context(), secret.Digest()); err != nil {
					t.Fatal(err)
				}
			}
			f.source.replace(c.store)
			if c.end > 0 {
				f.Apply(verify.Settings{TTL: ttl, Stale: c.end})
			}
			h.times = c.times
			if got := f.reason(t, secret); got != c.want {
				t.Errorf("%+v: got %s", c, got)
			}
		})
	}
}
