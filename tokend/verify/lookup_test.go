package verify_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"tokend/cache"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

var errAway = errors.New("the store is away")

// away is a store that fails at once.
func away(context.Context, token.Digest) (token.Record, error) { return token.Record{}, errAway }

// hang is a store that never answers, and ends when it is told to.
func hang(ctx context.Context, _ token.Digest) (token.Record, error) {
	<-ctx.Done()
	return token.Record{}, ctx.Err()
}

// deaf is a store that never answers, and doesn't end when it is told to.
func deaf(t *testing.T) lookup {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	return func(context.Context, token.Digest) (token.Record, error) {
		<-ended
		return token.Record{}, errAway
	}
}

func TestNoLookUpIsMadeForOneWrongCharacter(t *testing.T) {
	f := newFixture(t, verify.Config{})
	text := f.mint(t, token.Record{}).Reveal()
	rapid.Check(t, func(t *rapid.T) {
		at, c := rapid.IntRange(0, len(text)-1).Draw(t, "at"), string(rapid.Byte().Draw(t, "c"))
		typo := rapid.SampledFrom([]string{
			text[:at] + c + text[at+1:], // replaced
			text[:at] + c + text[at:],   // inserted
			text[:at] + text[at+1:],     // left out
			text + c,
		}).Draw(t, "typo")
		if typo == text {
			return
		}
		if got := f.Check(t.Context(), "alice", typo); got.Reason != verify.Malformed || got.OK() {
			t.Errorf("%q: got %s", typo, got.Reason)
		}
	})
	if n := f.source.asked.Load(); n != 0 {
		t.Errorf("%d look-ups", n)
	}
}

func TestNoLookUpIsMadeForWhatCannotBeAToken(t *testing.T) {
	f := newFixture(t, verify.Config{})
	text := f.mint(t, token.Record{}).Reveal()
	for _, secret := range []string{
		"", " ", "password", "irt_", strings.Repeat("0", 63), strings.Repeat("ab", 25)[:49],
		text + "\n", "\x00" + text, text + text, strings.ToUpper(text), strings.ToLower(text) + "\xff",
		strings.Repeat("a", 1_000_000), "irt_" + strings.Repeat("é", 19),
	} {
		if got := f.Check(t.Context(), "alice", secret).Reason; got != verify.Malformed {
			t.Errorf("%.50q: got %s", secret, got)
		}
	}
	if n := f.source.asked.Load(); n != 0 {
		t.Errorf("%d look-ups", n)
	}
}

func TestAHundredChecksAtOnceMakeOneLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			time.Sleep(time.Millisecond) // virtual: all hundred wait by then
			return f.source.Store.Lookup(ctx, digest)
		})
		if n := f.source.asks(func() {
			var checks sync.WaitGroup
			for range 100 {
				checks.Go(func() { f.expect(t, secret, verify.OK) })
			}
			checks.Wait()
		}); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
	})
}

func TestChecksOfDifferentTokensDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		slow, quick := f.mint(t, token.Record{}), f.mint(t, token.Record{})
		release := make(chan struct{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			if digest == slow.Digest() {
				<-release
			}
			return f.source.Store.Lookup(ctx, digest)
		})
		var checks sync.WaitGroup
		checks.Go(func() { f.expect(t, slow, verify.OK) })
		synctest.Wait()
		f.expect(t, quick, verify.OK)
		close(release)
		checks.Wait()
	})
}

func TestWhoGivesUpFirstTakesNobodyAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		release := make(chan struct{})
		f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
			<-release
			return f.source.Store.Lookup(ctx, digest)
		})
		impatient, giveUp := context.WithCancel(t.Context())
		var checks sync.WaitGroup
		checks.Go(func() {
			if got := f.Check(impatient, "alice", secret.Reveal()).Reason; got != verify.Unavailable {
				t.Errorf("who gave up: got %s", got)
			}
		})
		synctest.Wait()
		if n := f.source.asks(func() {
			checks.Go(func() { f.expect(t, secret, verify.OK) })
			synctest.Wait()
			giveUp()
			synctest.Wait()
			close(release)
			checks.Wait()
		}); n != 0 {
			t.Errorf("%d more look-ups, want 0", n)
		}
	})
}

func TestAHangingStoreIsUnavailableInTime(t *testing.T) {
	for _, c := range []struct {
		name     string
		store    func(*testing.T) lookup
		patience time.Duration // of the one who asks; 0: endless
		want     time.Duration
	}{
		{"ends when told, asker in no hurry", func(*testing.T) lookup { return hang }, 0, time.Second},
		{"ends when told, asker in a hurry", func(*testing.T) lookup { return hang }, 300 * time.Millisecond, 300 * time.Millisecond},
		{"deaf, asker as the socket's server", deaf, 1500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, verify.Config{})
				secret := f.mint(t, token.Record{})
				f.source.replace(c.store(t))
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if c.patience > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.patience)
				}
				defer cancel()
				begun := time.Now()
				verdict := f.Check(ctx, "alice", secret.Reveal())
				if verdict.Reason != verify.Unavailable || verdict.Detail == nil {
					t.Errorf("got %s (%v)", verdict.Reason, verdict.Detail)
				}
				if took := time.Since(begun); took != c.want {
					t.Errorf("took %s, want %s", took, c.want)
				}
				time.Sleep(time.Second) // the look-up ends after its asker
			})
		})
	}
}

func TestAStoreThatHungIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(hang)
		f.expect(t, secret, verify.Unavailable)
		f.source.replace(nil)
		f.expect(t, secret, verify.OK)
	})
}

// TestARecordOfAnotherTokenIsNoYes: a store that is off by one is not believed.
func TestARecordOfAnotherTokenIsNoYes(t *testing.T) {
	f := newFixture(t, verify.Config{})
	mine, others := f.mint(t, token.Record{}), f.mint(t, token.Record{})
	f.source.replace(func(ctx context.Context, _ token.Digest) (token.Record, error) {
		return f.source.Store.Lookup(ctx, others.Digest())
	})
	f.expect(t, mine, verify.Unavailable)
	f.source.replace(nil)
	f.expect(t, mine, verify.OK)
}

// claimed is a cache that says what is to be seen in it, as one does that may lose tombstones.
type claimed struct {
	*cache.Memory
	seen   atomic.Value // a string
	filled sync.Map     // by what had been seen before
}

func (c *claimed) Get(ctx context.Context, key string) (cache.Entry, error) {
	e, err := c.Memory.Get(ctx, key)
	e.Seen = []byte(c.seen.Load().(string))
	return e, err
}

func (c *claimed) Fill(ctx context.Context, key string, seen, value []byte, life time.Duration) error {
	c.filled.Store(string(seen), true)
	return c.Memory.Fill(ctx, key, seen, value, life)
}

// TestALookUpIsJoinedByThoseWhoHaveSeenTheSame, and fills with what was seen before it.
func TestALookUpIsJoinedByThoseWhoHaveSeenTheSame(t *testing.T) {
	for second, want := range map[string]int{"one": 1, "other": 2} {
		synctest.Test(t, func(t *testing.T) {
			kept := &claimed{Memory: newMemory(t)}
			f := newFixture(t, verify.Config{Cache: kept})
			secret := f.mint(t, token.Record{})
			f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
				time.Sleep(time.Millisecond) // virtual
				return f.source.Store.Lookup(ctx, digest)
			})
			if n := f.source.asks(func() {
				var checks sync.WaitGroup
				for _, seen := range []string{"one", second} {
					kept.seen.Store(seen)
					checks.Go(func() { f.expect(t, secret, verify.OK) })
					synctest.Wait()
				}
				checks.Wait()
			}); n != want {
				t.Errorf("seen one, then %s: %d look-ups", second, n)
			}
			for _, seen := range []string{"one", second} {
				if _, filled := kept.filled.Load(seen); !filled {
					t.Errorf("seen one, then %s: not filled with that of %s", second, seen)
				}
			}
		})
	}
}
