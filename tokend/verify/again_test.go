package verify_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// newRedis is a cache in a server of its own, once that is used.
func newRedis(t *testing.T) *cache.Redis {
	t.Helper()
	server, err := servers.StartRedis()
	must(err)
	t.Cleanup(func() { must(server.Stop()) })
	key := func() (k cache.Key) {
		_, _ = rand.Read(k[:]) // never an error
		return k
	}
	r, err := cache.NewRedis(cache.RedisConfig{
		Address: cache.Address{Servers: []string{server.Addr()}}, Keys: cache.Keys{Name: key(), Seals: []cache.Seal{{Number: 1, Key: key()}}},
	})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); r.Close() })
	if !within(20*time.Second, r.Used) {
		t.Fatalf("Redis is not used: %v", r.Err())
	}
	return r
}

// logIn has alice log in by all of them.
func (f *knoxFixture) logIn(t *testing.T, secrets []token.Knox) {
	t.Helper()
	for _, secret := range secrets {
		if got := f.says(t, secret); got != verify.OK {
			t.Fatal(got)
		}
	}
}

func (f *knoxFixture) mintMany(n int) (secrets []token.Knox) {
	alice := f.User("alice")
	for range n {
		secrets = append(secrets, f.Mint(alice))
	}
	return secrets
}

// TestWhatIsInUseIsReadAgainBeforeALoginHasTo, many by one statement; in a cache of the daemon's own, and in a shared one.
func TestWhatIsInUseIsReadAgainBeforeALoginHasTo(t *testing.T) {
	t.Parallel()
	for where, change := range map[string]func(*verify.Config){
		"memory": func(*verify.Config) {}, "Redis": func(c *verify.Config) { c.Cache = newRedis(t) },
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			const many = 100 // more than one statement asks for
			f := newKnox(t, "sodar-1.2", refresh(2*time.Second), change)
			secrets := f.mintMany(many)
			f.run(t)
			for begun := time.Now(); time.Since(begun) < 6*time.Second; time.Sleep(200 * time.Millisecond) {
				f.logIn(t, secrets)
			}
			if n := f.knox.logins.Load(); n > many+many/2 { // a busy machine may be late
				t.Errorf("logins asked %d times for %d tokens", n, many)
			}
			if n := f.knox.again.Load(); n < 20 || n > 150 {
				t.Errorf("%d tokens were read again by %d statements", many, n)
			}
		})
	}
}

// TestWhatIsReadAgainIsAsOldAsItsQuestion: the answer came late, and what was deleted meanwhile is good for [knox]
// refresh at most.
func TestWhatIsReadAgainIsAsOldAsItsQuestion(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	f := newKnox(t, "sodar-1.3", refresh(limit))
	secret := f.Mint(f.User("alice"))
	var deleted time.Time
	answers := make(chan struct{})
	f.knox.answered = func(n int64) error {
		if n > 1 {
			return errors.New("no answer")
		}
		f.Exec(`DELETE FROM tokens_sodarauthtoken`)
		deleted = time.Now()
		time.Sleep(limit / 2)
		close(answers)
		return nil
	}
	f.run(t)
	f.logIn(t, []token.Knox{secret})
	<-answers
	for time.Since(deleted) < limit {
		time.Sleep(10 * time.Millisecond)
	}
	if got := f.says(t, secret); got != verify.Unknown {
		t.Errorf("%s after it was deleted: %s", time.Since(deleted), got)
	}
}

// TestAnAnswerThatComesLateTakesNoPlaceOfANewerOne: the user was deactivated after the question, and a login has heard of it since.
func TestAnAnswerThatComesLateTakesNoPlaceOfANewerOne(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", refresh(2*time.Second))
	secret := f.Mint(f.User("alice"))
	refused := make(chan bool, 1)
	f.knox.answered = func(n int64) error {
		if n > 1 {
			return errors.New("no answer")
		}
		f.Exec(`UPDATE users_user SET is_active = false`)
		refused <- within(5*time.Second, func() bool { return f.says(t, secret) == verify.UserDisabled })
		return nil
	}
	f.run(t)
	f.logIn(t, []token.Knox{secret})
	if !<-refused {
		t.Fatal("it is believed on and on")
	}
	for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(10 * time.Millisecond) {
		if got := f.says(t, secret); got != verify.UserDisabled {
			t.Fatalf("%s after it was refused: %s", time.Since(begun), got)
		}
	}
}

// TestNoClockThatIsPutBackMakesARecordYoungAgain: the site's was ahead when a token was read, and that was deleted since.
func TestNoClockThatIsPutBackMakesARecordYoungAgain(t *testing.T) {
	t.Parallel()
	const ahead, limit = 5 * time.Second, time.Second
	f := newKnox(t, "sodar-1.3", refresh(limit))
	secret := f.Mint(f.User("alice"))
	future := time.Now().Add(ahead)
	f.knox.clock.Store(&future)
	f.logIn(t, []token.Knox{secret})
	f.knox.clock.Store(nil)
	f.run(t)
	f.Exec(`DELETE FROM tokens_sodarauthtoken`)
	time.Sleep(time.Until(future) + limit/4)
	if got := f.says(t, secret); got != verify.Unknown {
		t.Errorf("%s after it was read: %s", time.Since(future), got)
	}
}

// TestWhatNobodyUsesIsNotReadAgain for ever: only as long as it may be believed after its last use.
func TestWhatNobodyUsesIsNotReadAgain(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) {
		c.Settings = verify.Settings{TTL: life / 2, Stale: life / 2, Refresh: time.Second}
	})
	secrets := f.mintMany(1)
	f.run(t)
	for range 14 {
		f.logIn(t, secrets)
		time.Sleep(life/2 - 100*time.Millisecond)
	}
	if n := f.knox.logins.Load(); n > 3 { // a busy machine may be late
		t.Errorf("%d logins asked, though it was used all the time", n)
	}
	if f.knox.again.Load() == 0 {
		t.Error("it is not read again at all")
	}
	time.Sleep(life)
	before := f.knox.again.Load()
	time.Sleep(time.Second)
	if n := f.knox.again.Load() - before; n != 0 {
		t.Errorf("it is read %d times more, and nobody uses it", n)
	}
}

// TestNoMoreAreReadAgainThanAsManyAsFit: logins with the others ask.
func TestNoMoreAreReadAgainThanAsManyAsFit(t *testing.T) {
	t.Parallel()
	const tooMany = 20
	f := newKnox(t, "sodar-1.3", refresh(2*time.Second))
	secrets := f.mintMany(verify.MostInUse + tooMany)
	fit, more := secrets[:verify.MostInUse], secrets[verify.MostInUse:]
	f.run(t)
	f.logIn(t, fit)
	f.logIn(t, more)
	time.Sleep(5 * time.Second)
	before := f.knox.logins.Load()
	f.logIn(t, fit)
	if n := f.knox.logins.Load() - before; n > tooMany { // a busy machine may be late
		t.Errorf("%d of %d logins asked, for what is read again", n, len(fit))
	}
	before = f.knox.logins.Load()
	f.logIn(t, more)
	if n := f.knox.logins.Load() - before; n != tooMany {
		t.Errorf("%d logins asked, want each of %d", n, tooMany)
	}
}
