package postgres_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestWhatHappenedBeforeTheStartIsHeardOf: a cache that outlives the daemons may not have
// been told of it; of what is older than any record it need not be.
func TestWhatHappenedBeforeTheStartIsHeardOf(t *testing.T) {
	url := newDatabase(t, "current")
	one := open(t, url)
	forgotten, yesterday, revoked, disabled := mint(t, one), mint(t, one), mint(t, one), mint(t, one)
	run(t.Context(), url, `UPDATE tokens SET revoked = now() - interval '27 hours' WHERE id = '`+forgotten.ID+`';
		INSERT INTO events (at, actor, action, "user", token, detail)
		VALUES (now() - interval '27 hours', '', '`+string(token.TokenRevoked)+`', 'alice', '`+forgotten.ID+`', '');
		INSERT INTO events (at, actor, action, "user", token, detail)
		SELECT now() - interval '26 hours 1 minute', '', '`+string(token.TokenCreated)+`', 'alice', n::text, '' FROM generate_series(1, 20000) AS n;
		UPDATE tokens SET revoked = now() - interval '25 hours' WHERE id = '`+yesterday.ID+`';
		INSERT INTO events (at, actor, action, "user", token, detail)
		VALUES (now() - interval '25 hours', '', '`+string(token.TokenRevoked)+`', 'alice', '`+yesterday.ID+`', '');
		INSERT INTO events (at, actor, action, "user", token, detail)
		SELECT now() - interval '24 hours 30 minutes', '', '`+string(token.TokenCreated)+`', 'alice', n::text, '' FROM generate_series(1, 20000) AS n`)
	check(revokeNow(t, one, revoked))
	now := token.Time(one.Now())
	_, _, err := one.SetDisabled(t.Context(), "alice", true, now, token.Event{At: now, Action: token.UserDisabled})
	check(err)

	other := open(t, url)
	heard := told(t, other)
	wantTold(t, "before the start", heard, yesterday.Digest, revoked.Digest, disabled.Digest)
	await(t, "all of it", other.Hears)
	if n := len(heard); n > 0 {
		t.Errorf("told of %d changes that no record is older than", n)
	}
}

// TestWhatHappenedWhileTheClockWasWrongIsHeardOf, also when it has been put right since.
func TestWhatHappenedWhileTheClockWasWrongIsHeardOf(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"+ interval '2 hours'", "+ interval '2 days'", "- interval '2 days'"} {
		url := newDatabase(t, "current")
		one := open(t, url)
		r := mint(t, one)
		run(t.Context(), url, `UPDATE tokens SET revoked = now() `+at+` WHERE id = '`+r.ID+`';
			INSERT INTO events (at, actor, action, "user", token, detail)
			VALUES (now() `+at+`, '', '`+string(token.TokenRevoked)+`', 'alice', '`+r.ID+`', '')`)
		last := mint(t, one) // by the right clock
		check(revokeNow(t, one, last))
		wantTold(t, "by a clock that was wrong", told(t, open(t, url)), r.Digest, last.Digest)
	}
}

// TestWhatCouldNotBeForgottenIsHeardOfAgain, and nothing is believed until it is forgotten:
// neither at the start nor later.
func TestWhatCouldNotBeForgottenIsHeardOfAgain(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	one := open(t, url)
	r := mint(t, one)
	check(revokeNow(t, one, r))

	other := open(t, url)
	var ready atomic.Bool
	heard := watched(t, other, func() error {
		if ready.Load() {
			return nil
		}
		return errors.New("the cache can't be told")
	})
	for range 3 {
		wantTold(t, "in vain at the start", heard, r.Digest)
		if other.Hears() {
			t.Error("hears at the start, though a change is not forgotten")
		}
	}
	ready.Store(true)
	await(t, "the first success", other.Hears)
	drain(heard)

	r = mint(t, one)
	ready.Store(false)
	check(revokeNow(t, one, r))
	for range 3 {
		wantTold(t, "in vain later", heard, r.Digest)
	}
	await(t, "the failures to be known", func() bool { return !other.Hears() })
	drain(heard)
	wantTold(t, "when it is known", heard, r.Digest)
	ready.Store(true)
	await(t, "the next success", other.Hears)
}

func drain(digests <-chan token.Digest) {
	for len(digests) > 0 {
		<-digests
	}
}

// told collects what a watcher is told, for as long as the test runs.
func told(t *testing.T, s *postgres.Store) <-chan token.Digest {
	t.Helper()
	return watched(t, s, func() error { return nil })
}

// watched is the same for a watcher that then returns what result says.
func watched(t *testing.T, s *postgres.Store, result func() error) <-chan token.Digest {
	t.Helper()
	digests := make(chan token.Digest, 1000)
	inBackground(t, func(ctx context.Context) {
		s.Watch(ctx, func(_ context.Context, all ...token.Digest) error {
			for _, d := range all {
				digests <- d
			}
			return result()
		}, nil)
	})
	return digests
}

// inBackground runs f until the end of the test.
func inBackground(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}
