package verify_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

func TestAgeDecidesWhetherTheStoreIsAsked(t *testing.T) {
	const none, little = time.Duration(0), time.Nanosecond
	for _, c := range []struct {
		age, stale time.Duration
		store      lookup // nil: it works
		asks       int
		want       verify.Reason
	}{
		{age: 0, stale: stale, store: nil, asks: 0, want: verify.OK},
		{age: ttl - little, stale: stale, store: nil, asks: 0, want: verify.OK},
		{age: ttl, stale: stale, store: nil, asks: 1, want: verify.OK},
		{age: ttl + stale, stale: stale, store: nil, asks: 1, want: verify.OK},

		{age: ttl - little, stale: stale, store: away, asks: 0, want: verify.OK},
		{age: ttl, stale: stale, store: away, asks: 1, want: verify.OK},
		{age: ttl + stale - little, stale: stale, store: away, asks: 1, want: verify.OK},
		{age: ttl + stale, stale: stale, store: away, asks: 1, want: verify.Unavailable},

		{age: ttl - little, stale: none, store: away, asks: 0, want: verify.OK},
		{age: ttl, stale: none, store: away, asks: 1, want: verify.Unavailable},

		{age: ttl, stale: stale, store: hang, asks: 1, want: verify.OK},
		{age: ttl + stale, stale: stale, store: hang, asks: 1, want: verify.Unavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, verify.Config{Settings: verify.Settings{TTL: ttl, Stale: c.stale}})
			secret := f.mint(t, token.Record{})
			f.expect(t, secret, verify.OK)
			time.Sleep(c.age)
			f.source.replace(c.store)
			var got verify.Reason
			asks := f.source.asks(func() { got = f.reason(t, secret) })
			if got != c.want || asks != c.asks {
				t.Errorf("age %s, stale %s, store works %t: got %s and %d look-ups, want %s and %d",
					c.age, c.stale, c.store == nil, got, asks, c.want, c.asks)
			}
		})
	}
}

// TestOnlyTheStoresAnswerMovesTheTime checks every ten seconds, and counts from
// the last answer.
func TestOnlyTheStoresAnswerMovesTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		time.Sleep(ttl)
		f.expect(t, secret, verify.OK) // the last answer
		answered := time.Now()
		f.source.replace(away)
		for time.Since(answered) < ttl+stale-10*time.Second {
			time.Sleep(10 * time.Second)
			f.expect(t, secret, verify.OK)
		}
		time.Sleep(10 * time.Second)
		f.expect(t, secret, verify.Unavailable)
	})
}

// TestAnAnswerIsAsOldAsItsQuestion: what the store said may have changed while
// the answer was on its way.
func TestAnAnswerIsAsOldAsItsQuestion(t *testing.T) {
	const way = 900 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			record, err := f.source.Store.Lookup(ctx, digest)
			time.Sleep(way)
			return record, err
		})
		f.expect(t, secret, verify.OK)
		f.source.replace(away)
		time.Sleep(ttl - way)
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK) }); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
	})
}

func TestAClockThatIsSetDoesNotProlongBelief(t *testing.T) {
	for _, c := range []struct {
		set  time.Duration
		asks int
		want verify.Reason // while the store is away
	}{
		{set: 0, asks: 0, want: verify.OK},
		{set: -500 * time.Millisecond, asks: 0, want: verify.OK}, // ntp corrects it
		{set: -time.Second, asks: 0, want: verify.OK},
		{set: -time.Second - time.Microsecond, asks: 1, want: verify.Unavailable},
		{set: -time.Hour, asks: 1, want: verify.Unavailable},
		{set: ttl, asks: 1, want: verify.OK},
		{set: time.Hour, asks: 1, want: verify.Unavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			var set time.Duration
			f := newFixture(t, verify.Config{Now: func() time.Time { return time.Now().Add(set) }})
			secret := f.mint(t, token.Record{})
			f.expect(t, secret, verify.OK)
			set = c.set
			f.source.replace(away)
			if n := f.source.asks(func() { f.expect(t, secret, c.want) }); n != c.asks {
				t.Errorf("clock set by %s: %d look-ups, want %d", c.set, n, c.asks)
			}
			f.source.replace(nil)
			f.expect(t, secret, verify.OK)
			f.source.replace(away)
			f.expect(t, secret, verify.OK)
			time.Sleep(ttl + stale)
			f.expect(t, secret, verify.Unavailable)
		})
	}
}

// TestAReloadChangesHowLongRecordsAreBelieved covers those that are cached.
func TestAReloadChangesHowLongRecordsAreBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		time.Sleep(2 * time.Second)
		f.source.replace(away)
		f.Apply(verify.Settings{TTL: 2 * time.Second, Stale: time.Second})
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK) }); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
		time.Sleep(time.Second) // the cache has it on
		f.expect(t, secret, verify.Unavailable)
		f.Apply(verify.Settings{TTL: 3 * time.Second})
		f.expect(t, secret, verify.Unavailable)
		f.Apply(verify.Settings{TTL: ttl})
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK) }); n != 0 {
			t.Errorf("%d look-ups, want 0", n)
		}
	})
}

func TestAnUnknownTokenIsUnavailableWhileTheStoreIsAway(t *testing.T) {
	f := newFixture(t, verify.Config{})
	f.source.replace(away)
	f.expect(t, token.Mint(), verify.Unavailable)
}

// TestNotFoundEndsAnOlderRecord: a row that is gone, after a restored backup for
// example, is not believed again when the store goes away.
func TestNotFoundEndsAnOlderRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		time.Sleep(ttl)
		f.source.replace(func(context.Context, token.Digest) (token.Record, error) {
			return token.Record{}, token.ErrNotFound
		})
		f.expect(t, secret, verify.Unknown)
		f.source.replace(away)
		for range 100 {
			time.Sleep(10 * time.Second)
			if got := f.reason(t, secret); got == verify.OK {
				t.Fatal("believed again")
			}
		}
	})
}
