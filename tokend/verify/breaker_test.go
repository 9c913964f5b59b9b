package verify_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// hung makes a store that hangs, of which the Verifier knows. It returns what ends that.
func hung(t *testing.T, f *fixture) (heal func()) {
	t.Helper()
	healed := make(chan struct{})
	f.source.replace(func(ctx context.Context, digest token.Digest) (token.Record, error) {
		select {
		case <-healed:
			return f.source.Store.Lookup(ctx, digest)
		case <-ctx.Done():
			return token.Record{}, ctx.Err()
		}
	})
	for range 3 {
		f.expect(t, token.Mint(), verify.Unavailable)
	}
	heal = sync.OnceFunc(func() { close(healed) })
	t.Cleanup(func() { // or the last question would outlive the test
		heal()
		synctest.Wait()
	})
	return heal
}

// took is how long f takes.
func took(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

// TestNobodyWaitsForAStoreThatHangs: older records are believed, and who has none is told,
// at once.
func TestNobodyWaitsForAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		time.Sleep(ttl)
		hung(t, f)
		if n := f.source.asks(func() {
			var logins sync.WaitGroup
			for range 100 {
				for secret, want := range map[token.Secret]verify.Reason{secret: verify.OK, token.Mint(): verify.Unavailable} {
					logins.Go(func() {
						if span := took(func() { f.expect(t, secret, want) }); span > 100*time.Millisecond {
							t.Errorf("%s took %s", want, span)
						}
					})
				}
			}
			logins.Wait()
		}); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
		if span := took(func() { f.expect(t, secret, verify.OK) }); span > 0 { // the question is old
			t.Errorf("it took %s", span)
		}
		time.Sleep(stale)
		f.expect(t, secret, verify.Unavailable)
	})
}

// TestAStoreThatHangsIsAskedAgain: once it answers, no older record is believed.
func TestAStoreThatHangsIsAskedAgain(t *testing.T) {
	for _, pause := range []time.Duration{0, 50 * time.Millisecond, 500 * time.Millisecond, 999 * time.Millisecond, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, verify.Config{Settings: verify.Settings{TTL: ttl, Stale: 24 * time.Hour}})
			secret := f.mint(t, token.Record{})
			f.expect(t, secret, verify.OK)
			time.Sleep(ttl)
			heal := hung(t, f)
			f.expect(t, secret, verify.OK)
			time.Sleep(pause)
			f.revoke(t, secret) // by another daemon, of which this one hears nothing
			heal()
			synctest.Wait()
			f.expect(t, secret, verify.Revoked)
			for _, want := range []string{"the store hangs: until it answers", "logins wait for the store again"} {
				if n := strings.Count(f.log.String(), `"msg":"`+want); n != 1 {
					t.Errorf("the log has %d lines %q, want 1", n, want)
				}
			}
		})
	}
}

// TestAStoreThatAnswersOthersIsWaitedFor: nobody has logged in since it hung, and it is slower than what
// logins wait for one that hangs.
func TestAStoreThatAnswersOthersIsWaitedFor(t *testing.T) {
	for took, want := range map[time.Duration]verify.Reason{
		0: verify.Unavailable, 150 * time.Millisecond: verify.OK, time.Second: verify.Unavailable, // 0: nobody asks
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, verify.Config{})
			secret := f.mint(t, token.Record{})
			heal := hung(t, f)
			heal()
			f.source.replace(func(ctx context.Context, d token.Digest) (token.Record, error) {
				time.Sleep(150 * time.Millisecond)
				return f.source.Store.Lookup(ctx, d)
			})
			time.Sleep(time.Minute)
			if took > 0 {
				asked := time.Now()
				time.Sleep(took)
				f.StoreAnswers(t.Context(), asked)
			}
			f.expect(t, secret, want)
			time.Sleep(time.Second) // the question ends
		})
	}
}

// TestAnAnswerIsWorthMoreThanWhatWasAskedBefore it: connections had become silent, and new ones are not.
func TestAnAnswerIsWorthMoreThanWhatWasAskedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.source.replace(func(ctx context.Context, _ token.Digest) (token.Record, error) {
			<-ctx.Done()
			return token.Record{}, ctx.Err()
		})
		var logins sync.WaitGroup
		for range 10 {
			logins.Go(func() { f.expect(t, token.Mint(), verify.Unavailable) })
		}
		time.Sleep(500 * time.Millisecond)
		f.source.replace(nil)
		f.expect(t, secret, verify.OK)
		logins.Wait()
		if strings.Contains(f.log.String(), "the store hangs") {
			t.Error("the log says that it hangs")
		}
		f.expect(t, token.Mint(), verify.Unknown)
		f.source.replace(func(context.Context, token.Digest) (token.Record, error) {
			time.Sleep(200 * time.Millisecond)
			return token.Record{}, errAway
		})
		for range 3 { // asked after it
			f.expect(t, token.Mint(), verify.Unavailable)
		}
		if !strings.Contains(f.log.String(), "the store hangs") {
			t.Error("the log doesn't say that it hangs")
		}
	})
}

// TestAQuestionPastItsDeadlineIsNotTheLast: the store ignores that.
func TestAQuestionPastItsDeadlineIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		hung(t, f)
		gate := make(chan struct{})
		defer close(gate)
		f.source.replace(func(context.Context, token.Digest) (token.Record, error) {
			<-gate
			return token.Record{}, errAway
		})
		f.expect(t, token.Mint(), verify.Unavailable)
		f.source.replace(nil)
		f.expect(t, token.Mint(), verify.Unavailable) // the one question is under way
		time.Sleep(time.Second)
		f.expect(t, token.Mint(), verify.Unknown)
	})
}

// TestWhileTheStoreHangsATombstoneHolds: what is buried is never believed.
func TestWhileTheStoreHangsATombstoneHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{})
		f.expect(t, secret, verify.OK)
		time.Sleep(ttl)
		hung(t, f)
		f.expect(t, secret, verify.OK)
		if err := f.Forget(t.Context(), secret.Digest()); err != nil {
			t.Fatal(err)
		}
		f.expect(t, secret, verify.Unavailable)
	})
}

// TestAStoreThatFailsAtOnceIsAskedByEveryLogin, because that takes no time; so is one that
// is slow, but answers.
func TestAStoreThatFailsAtOnceIsAskedByEveryLogin(t *testing.T) {
	slow := func(f *fixture) lookup {
		return func(ctx context.Context, digest token.Digest) (token.Record, error) {
			time.Sleep(900 * time.Millisecond)
			return f.source.Store.Lookup(ctx, digest)
		}
	}
	for name, store := range map[string]func(*fixture) lookup{"away": func(*fixture) lookup { return away }, "slow": slow} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, verify.Config{Heard: func() time.Time { return time.Time{} }})
			secret := f.mint(t, token.Record{})
			f.expect(t, secret, verify.OK)
			f.source.replace(store(f))
			if n := f.source.asks(func() {
				for range 10 {
					f.expect(t, secret, verify.OK)
				}
			}); n != 10 {
				t.Errorf("%s: %d look-ups, want 10", name, n)
			}
			if strings.Contains(f.log.String(), "the store hangs") {
				t.Errorf("%s: the log says that it hangs", name)
			}
			f.source.replace(nil)
			f.revoke(t, secret)
			f.expect(t, secret, verify.Revoked)
		})
	}
}
