package verify_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestNoCheckAfterForgetSaysYes holds a look-up between what the store read and
// the cache, while the token is revoked.
func TestNoCheckAfterForgetSaysYes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		release := make(chan struct{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			record, err := f.source.Store.Lookup(ctx, digest)
			<-release
			return record, err
		})
		var held sync.WaitGroup
		held.Go(func() { f.reason(t, secret) }) // it began before: it may say what it likes
		synctest.Wait()
		f.revoke(t, secret)
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Fatal(err)
		}
		f.source.replace(nil)
		f.expect(t, secret, verify.Revoked) // asks anew, and doesn't wait for the old look-up
		close(release)
		held.Wait()
		for age := time.Duration(0); age < 2*(ttl+stale); age += ttl / 2 {
			f.expect(t, secret, verify.Revoked)
			time.Sleep(ttl / 2)
		}
	})
}

// TestALateLookUpCannotUndoForget: nobody checks until it is over.
func TestALateLookUpCannotUndoForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			record, err := f.source.Store.Lookup(ctx, digest)
			time.Sleep(999 * time.Millisecond)
			return record, err
		})
		var held sync.WaitGroup
		held.Go(func() { f.reason(t, secret) })
		synctest.Wait()
		f.revoke(t, secret)
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Fatal(err)
		}
		held.Wait()
		f.source.replace(nil)
		if n := f.source.asks(func() { f.expect(t, secret, verify.Revoked) }); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
	})
}

// TestALookUpThatOutlastsATombstone is joined by nobody then, and fills nothing: the
// tombstone was short, and then records are believed for longer again.
func TestALookUpThatOutlastsATombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			record, err := f.source.Store.Lookup(ctx, digest)
			time.Sleep(4 * time.Second) // whatever its deadline
			return record, err
		})
		var held sync.WaitGroup
		held.Go(func() { f.reason(t, secret) })
		synctest.Wait()
		f.Apply(verify.Settings{TTL: time.Second})
		f.revoke(t, secret)
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3500 * time.Millisecond) // the tombstone is gone, the look-up is not
		f.Apply(verify.Settings{TTL: ttl})
		f.source.replace(nil)
		f.expect(t, secret, verify.Revoked)
		held.Wait()
		time.Sleep(time.Second) // now it is
		f.expect(t, secret, verify.Revoked)
	})
}

func TestAfterForgetAnAwayStoreIsNoYes(t *testing.T) {
	f := newFixture(t, verify.Config{})
	secret := f.mint(t, token.Record{})
	f.expect(t, secret, verify.OK)
	f.source.replace(away)
	f.expect(t, secret, verify.OK)
	if err := f.Forget(t.Context(), secret.Digest()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, secret, verify.Unavailable)
}

// TestATombstoneEnds: a record that changed is cached again in the end.
func TestATombstoneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Fatal(err)
		}
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK); f.expect(t, secret, verify.OK) }); n != 2 {
			t.Errorf("buried: %d look-ups, want 2", n)
		}
		time.Sleep(ttl + stale + 2*time.Second)
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK); f.expect(t, secret, verify.OK) }); n != 1 {
			t.Errorf("afterwards: %d look-ups, want 1", n)
		}
	})
}

func TestNothingIsFilledInATombstonesPlace(t *testing.T) {
	records := &broken{Memory: newMemory(t)}
	f := newFixture(t, verify.Config{Cache: records})
	secret := f.mint(t, token.Record{})
	if err := f.Forget(t.Context(), secret.Digest()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, secret, verify.OK)
	if records.filled != nil {
		t.Errorf("filled with %s", records.filled)
	}
}

func TestForgetOfOneTokenLeavesTheOthers(t *testing.T) {
	f := newFixture(t, verify.Config{})
	one, two, three := f.mint(t, token.Record{}), f.mint(t, token.Record{}), f.mint(t, token.Record{})
	for _, secret := range []token.Secret{one, two, three} {
		f.expect(t, secret, verify.OK)
	}
	if err := f.Forget(t.Context(), one.Digest(), two.Digest()); err != nil {
		t.Fatal(err)
	}
	for secret, asks := range map[token.Secret]int{one: 1, two: 1, three: 0} {
		if n := f.source.asks(func() { f.expect(t, secret, verify.OK) }); n != asks {
			t.Errorf("%d look-ups, want %d", n, asks)
		}
	}
}

// TestNoYesAfterARevocationUnderLoad races checks against revocations, without a
// script: whatever begins after Forget has returned is a no.
func TestNoYesAfterARevocationUnderLoad(t *testing.T) {
	const tokens, checkers = 150, 6
	f := newFixture(t, verify.Config{})
	secrets, revoked := make([]token.Secret, tokens), make([]atomic.Bool, tokens)
	for i := range secrets {
		secrets[i] = f.mint(t, token.Record{})
	}
	var done atomic.Bool
	var yes atomic.Int64
	var all sync.WaitGroup
	for range checkers {
		all.Go(func() {
			for !done.Load() {
				i := rand.IntN(tokens)
				was := revoked[i].Load()
				verdict := f.Check(t.Context(), "alice", secrets[i].Reveal())
				switch {
				case verdict.OK() && was:
					t.Errorf("token %d: a yes after it was revoked", i)
				case verdict.OK():
					yes.Add(1)
				case verdict.Reason != verify.Revoked:
					t.Errorf("token %d: %s", i, verdict.Reason)
				}
			}
		})
	}
	for i, secret := range secrets {
		f.revoke(t, secret)
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Error(err)
		}
		revoked[i].Store(true)
		if verdict := f.Check(t.Context(), "alice", secret.Reveal()); verdict.Reason != verify.Revoked {
			t.Errorf("token %d: %s right after it was revoked", i, verdict.Reason)
		}
	}
	done.Store(true)
	all.Wait()
	if yes.Load() == 0 {
		t.Error("no check said yes: nothing was shown")
	}
}

// burials notes how long tombstones live.
type burials struct {
	*cache.Memory
	lives []time.Duration
}

func (b *burials) Bury(ctx context.Context, life time.Duration, keys ...string) error {
	b.lives = append(b.lives, life)
	return b.Memory.Bury(ctx, life, keys...)
}

// TestATombstoneOutlivesEveryRecord, wherever the cache is and whoever filled it:
// the last of them is filled by a look-up that was under way and took its whole
// second.
func TestATombstoneOutlivesEveryRecord(t *testing.T) {
	buried := &burials{Memory: newMemory(t)}
	f := newFixture(t, verify.Config{Cache: buried})
	if err := f.Forget(t.Context(), token.Mint().Digest()); err != nil {
		t.Fatal(err)
	}
	if len(buried.lives) != 1 || buried.lives[0] <= time.Second+ttl+stale {
		t.Errorf("tombstones live for %v, the last record for %v from then on", buried.lives, time.Second+ttl+stale)
	}
}

// TestWhoMayHaveMissedAChangeJoinsNoOlderLookUp: another daemon has revoked the token and
// put up its tombstone, of which this one has not heard; or the cache cannot say.
func TestWhoMayHaveMissedAChangeJoinsNoOlderLookUp(t *testing.T) {
	for name, change := range map[string]func(*unsure, token.Digest){
		"buried":   func(u *unsure, d token.Digest) { _ = u.Bury(context.Background(), time.Hour, string(d[:])) },
		"failed":   func(u *unsure, _ token.Digest) { u.says.Store(&answer{err: errBroken}) },
		"tampered": func(u *unsure, _ token.Digest) { u.says.Store(&answer{err: cache.ErrTampered}) },
		"tampered in the same way before": func(u *unsure, _ token.Digest) {
			u.says.Store(&answer{cache.Entry{Seen: []byte("x")}, cache.ErrTampered})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			records := &unsure{Memory: newMemory(t)}
			f := newFixture(t, verify.Config{Cache: records})
			secret := f.mint(t, token.Record{})
			if strings.HasSuffix(name, "before") {
				change(records, secret.Digest())
			}
			f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
				record, err := f.source.Store.Lookup(ctx, digest)
				time.Sleep(500 * time.Millisecond)
				return record, err
			})
			var held sync.WaitGroup
			held.Go(func() { f.reason(t, secret) }) // it began before: it may say what it likes
			synctest.Wait()
			f.revoke(t, secret)
			change(records, secret.Digest())
			if got := f.reason(t, secret); got != verify.Revoked {
				t.Errorf("%s: got %s", name, got)
			}
			held.Wait()
		})
	}
}

// unsure is a cache that may be made to say something else.
type unsure struct {
	*cache.Memory
	says atomic.Pointer[answer]
}

type answer struct {
	cache.Entry
	err error
}

func (u *unsure) Get(ctx context.Context, key string) (cache.Entry, error) {
	if a := u.says.Load(); a != nil {
		return a.Entry, a.err
	}
	return u.Memory.Get(ctx, key)
}
