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

// TestWhoHearsOfNoChangesAsksTheStore, and while that cannot say believes what is not too
// old.
func TestWhoHearsOfNoChangesAsksTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hears := true
		f := newFixture(t, verify.Config{Heard: heardIf(&hears)})
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

// heardIf is that all is heard of, or nothing.
func heardIf(hears *bool) func() time.Time {
	return func() (until time.Time) {
		if *hears {
			until = time.Now()
		}
		return until
	}
}

// TestOfWhatWasReadBeforeTheStoreIsAsked: a backup was put back, in which the token may not be,
// another server has taken over, or the daemon has started. While the store cannot say, it is
// believed as what is too old.
func TestOfWhatWasReadBeforeTheStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now()
		f := newFixture(t, verify.Config{Since: func() time.Time { return since }})
		secret := f.mint(t, token.Record{})
		expect := func(want verify.Reason, asks int) {
			t.Helper()
			if n := f.source.asks(func() { f.expect(t, secret, want) }); n != asks {
				t.Errorf("%d look-ups, want %d", n, asks)
			}
		}
		expect(verify.OK, 1)
		time.Sleep(time.Second)
		expect(verify.OK, 0)
		since = time.Now()
		f.source.replace(away)
		expect(verify.OK, 1)
		f.source.replace(nil)
		expect(verify.OK, 1)
		expect(verify.OK, 0)
		time.Sleep(time.Second)
		since = time.Now()
		f.source.replace(func(context.Context, token.Digest) (token.Record, error) { return token.Record{}, token.ErrNotFound })
		expect(verify.Unknown, 1)
		since = time.Time{} // as it is for another daemon, which has not noticed yet
		f.source.replace(away)
		time.Sleep(5 * time.Second)
		expect(verify.Unavailable, 1)
	})
}

// TestAChangeThatIsHeardOfAfterTheCacheHasAnsweredIsNotMissed: the record was in the cache
// still, and when it has been read there, all is heard of again.
func TestAChangeThatIsHeardOfAfterTheCacheHasAnsweredIsNotMissed(t *testing.T) {
	hears := true
	records := &interrupted{Memory: newMemory(t)}
	f := newFixture(t, verify.Config{Cache: records, Heard: heardIf(&hears)})
	secret := f.mint(t, token.Record{})
	f.expect(t, secret, verify.OK)
	f.revoke(t, secret)
	hears = false
	heard := false
	records.answered = func() {
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Error(err)
		}
		hears, heard = true, true
	}
	f.expect(t, secret, verify.Revoked)
	if !heard {
		t.Error("the cache was not asked: nothing was shown")
	}
}

// interrupted is a cache between whose answer and who asked something else happens.
type interrupted struct {
	*cache.Memory
	answered func() // nil: nothing
}

func (i *interrupted) Get(ctx context.Context, key string) (cache.Entry, error) {
	e, err := i.Memory.Get(ctx, key)
	if i.answered != nil {
		i.answered()
	}
	return e, err
}

// TestOfWhatTheCacheMayLackTheStoreIsAsked: another server is used for it, at which others may
// have put up no tombstone yet. Who asks then joins no look-up that began before.
func TestOfWhatTheCacheMayLackTheStoreIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &another{Memory: newMemory(t)}
		heard := time.Now()
		f := newFixture(t, verify.Config{Cache: records, Heard: func() time.Time { return heard }})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		expect := func(want verify.Reason, asks int) {
			t.Helper()
			if n := f.source.asks(func() { f.expect(t, secret, want) }); n != asks {
				t.Errorf("%d look-ups, want %d", n, asks)
			}
		}
		expect(verify.OK, 0)
		records.since = heard
		expect(verify.OK, 1)
		f.source.replace(away)
		expect(verify.OK, 1) // as what is too old
		f.source.replace(nil)
		heard = heard.Add(1)
		expect(verify.OK, 0)
		heard = records.since

		for _, s := range []token.Secret{secret, f.mint(t, token.Record{})} { // which is in no cache
			begun, goOn := make(chan struct{}), make(chan struct{})
			f.source.replace(func(ctx context.Context, d token.Digest) (token.Record, error) {
				r, err := f.source.Store.Lookup(ctx, d)
				close(begun)
				<-goOn
				return r, err
			})
			go f.reason(t, s)
			<-begun
			f.source.replace(nil)
			f.revoke(t, s) // by another daemon, whose tombstone is at the other server
			if n := f.source.asks(func() { f.expect(t, s, verify.Revoked) }); n != 1 {
				t.Errorf("%d look-ups after a revoke, want one", n)
			}
			close(goOn)
			synctest.Wait()
		}
	})
}

// another is a cache that may lack tombstones.
type another struct {
	*cache.Memory
	since time.Time
}

func (a *another) Get(ctx context.Context, key string) (cache.Entry, error) {
	e, err := a.Memory.Get(ctx, key)
	e.Since = a.since
	return e, err
}

// TestWhatIsNotOfTheStoreForSureIsNotKept: it holds for the login that asked, and what is cached
// outlasts it.
func TestWhatIsNotOfTheStoreForSureIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unproved time.Time // the last look-up that was began then
		f := newFixture(t, verify.Config{
			Settings: verify.Settings{TTL: time.Second, Stale: time.Minute},
			Proved:   func(since time.Time) bool { return unproved.Before(since) }, //nolint:gocritic // it changes
		})
		kept, found := f.mint(t, token.Record{}), f.mint(t, token.Record{})
		f.expect(t, kept, verify.OK)
		time.Sleep(time.Second)
		doubt := func(look func(context.Context, token.Digest) (token.Record, error)) func(context.Context, token.Digest) (token.Record, error) {
			return func(ctx context.Context, d token.Digest) (token.Record, error) {
				unproved = time.Now()
				time.Sleep(time.Millisecond)
				return look(ctx, d)
			}
		}
		f.source.replace(doubt(f.source.Store.Lookup))
		f.expect(t, found, verify.OK)
		f.source.replace(doubt(func(context.Context, token.Digest) (token.Record, error) { return token.Record{}, token.ErrNotFound }))
		f.expect(t, kept, verify.Unknown)
		f.expect(t, found, verify.Unknown) // it was not cached
		f.source.replace(away)
		f.expect(t, kept, verify.OK) // it is still, and was not noted as unknown
		f.expect(t, found, verify.Unavailable)
	})
}

// TestWhatWasUnknownBeforeTheStoreBecameAnotherIsAskedAgain: a backup may have been put back.
func TestWhatWasUnknownBeforeTheStoreBecameAnotherIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now()
		f := newFixture(t, verify.Config{Since: func() time.Time { return since }})
		secret := f.mint(t, token.Record{})
		unknown := func(context.Context, token.Digest) (token.Record, error) { return token.Record{}, token.ErrNotFound }
		f.source.replace(unknown)
		f.expect(t, secret, verify.Unknown)
		f.source.replace(nil)
		f.expect(t, secret, verify.Unknown)
		since = since.Add(time.Millisecond)
		f.expect(t, secret, verify.OK)
		another := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, d token.Digest) (token.Record, error) {
			defer func() { since = since.Add(time.Millisecond) }() // it becomes another meanwhile
			return unknown(ctx, d)
		})
		f.expect(t, another, verify.Unknown)
		f.source.replace(nil)
		f.expect(t, another, verify.OK)
	})
}
