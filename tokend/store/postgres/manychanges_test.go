package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// Very many tokens of alice's, and what the trail may have of them.
const (
	manyTokens = `INSERT INTO users (name) VALUES ('alice');
		INSERT INTO tokens (digest, id, owner, hint, label, created)
			SELECT sha512(n::text::bytea), n::text, 'alice', '', '', now() FROM generate_series(1, 25000) AS n;`
	allRevoked = `INSERT INTO events (at, actor, action, "user", token, detail)
			SELECT now(), '', 'token.revoke', 'alice', n::text, '' FROM generate_series(1, 25000) AS n`
	againAndAgain = `INSERT INTO events (at, actor, action, "user", token, detail)
			SELECT now(), '', CASE n % 2 WHEN 1 THEN 'user.disable' ELSE 'user.enable' END, 'alice', '', '' FROM generate_series(1, 1000) AS n`
)

// TestCatchingUpGoesOnWhereItFailed: from the start, it might never come to its end.
func TestCatchingUpGoesOnWhereItFailed(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	run(t.Context(), url, manyTokens+allRevoked)
	s := open(t, url)
	var calls, most int
	times := map[token.Digest]int{}
	watchFor(t, s, func(_ context.Context, digests ...token.Digest) error {
		if calls++; calls%2 == 0 {
			return errors.New("not now")
		}
		for _, d := range digests {
			times[d]++
			most = max(most, times[d])
		}
		return nil
	})
	if len(times) != 25000 || calls < 4 || most > 1 {
		t.Errorf("told of %d tokens in %d parts, of one %d times; want all 25000, each once", len(times), calls, most)
	}
}

// TestWhoIsDisabledAgainAndAgainIsHeardOfOnce, not once for each change and token.
func TestWhoIsDisabledAgainAndAgainIsHeardOfOnce(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	run(t.Context(), url, manyTokens+againAndAgain)
	s := open(t, url)
	told := 0
	watchFor(t, s, func(_ context.Context, digests ...token.Digest) error {
		told += len(digests)
		return nil
	})
	if told != 25000 {
		t.Errorf("told %d times of 25000 tokens", told)
	}
}

// twoRevoked is a database in which two tokens were revoked by one daemon, and another one that
// has heard of both.
func twoRevoked(t *testing.T) (url string, one, other *postgres.Store, revoked, gone token.Record, heard <-chan token.Digest) {
	t.Helper()
	url = newDatabase(t, "current")
	one = open(t, url)
	revoked, gone = mint(t, one), mint(t, one)
	check(revokeNow(t, one, revoked))
	check(revokeNow(t, one, gone))
	other = open(t, url)
	heard = told(t, other)
	wantTold(t, "before", heard, revoked.Digest, gone.Digest)
	await(t, "all", other.Hears)
	return url, one, other, revoked, gone, heard
}

// TestWhatWasPutBackIsLookedAtAgain: a backup that was restored has a shorter trail, and in
// it may be what is not known here.
func TestWhatWasPutBackIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	url, _, other, revoked, gone, heard := twoRevoked(t)
	since := other.Since()
	run(t.Context(), url, `SET session_replication_role = replica; DELETE FROM events WHERE token = '`+gone.ID+`'`)
	wantTold(t, "afterwards", heard, revoked.Digest)
	if !other.Since().After(since) {
		t.Error("what was read before is still believed")
	}
}

// TestAfterAPutBackTheCachesKeysAreReadAgain, though the trail says nothing of them.
func TestAfterAPutBackTheCachesKeysAreReadAgain(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	s := open(t, url)
	mint(t, s)
	_, err := s.CacheKeys(t.Context()) // makes them
	check(err)
	var calls atomic.Int64
	inBackground(t, func(ctx context.Context) {
		s.Watch(ctx, func(context.Context, ...token.Digest) error { return nil }, func(context.Context, []postgres.CacheKey) { calls.Add(1) })
	})
	await(t, "all", s.Hears)
	before := calls.Load()
	run(t.Context(), url, `SET session_replication_role = replica; DELETE FROM events`)
	await(t, "the watcher's word", func() bool { return calls.Load() > before })
}

// TestAfterAPutBackTheCachesKeysAreReadUntilTheyAre: they cannot be at first, the trail is quiet,
// and the backup is from before there were any.
func TestAfterAPutBackTheCachesKeysAreReadUntilTheyAre(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	s := open(t, url)
	mint(t, s)
	was, err := s.CacheKeys(t.Context())
	check(err)
	var told atomic.Pointer[[]postgres.CacheKey]
	inBackground(t, func(ctx context.Context) {
		s.Watch(ctx, func(context.Context, ...token.Digest) error { return nil }, func(_ context.Context, keys []postgres.CacheKey) { told.Store(&keys) })
	})
	await(t, "all", s.Hears)
	holder := connect(t.Context(), url)
	_, err = holder.Exec(t.Context(), `BEGIN; LOCK TABLE cache_keys; DELETE FROM cache_keys`)
	check(err)
	told.Store(nil)
	run(t.Context(), url, `SET session_replication_role = replica; DELETE FROM events`)
	await(t, "a failure", func() bool {
		return s.WatchErr() != nil && strings.Contains(s.WatchErr().Error(), "read the keys of the cache")
	})
	_, err = holder.Exec(t.Context(), `COMMIT`)
	check(err)
	check(holder.Close(t.Context()))
	await(t, "what is heard of again", s.Hears)
	keys := told.Load()
	if keys == nil || len(*keys) != 2 || (*keys)[1].Secret == was[1].Secret {
		t.Errorf("it hears again, and was told of %v", keys)
	}
	now, err := s.CacheKeys(t.Context())
	check(err)
	if keys != nil && !slices.Equal(*keys, now) {
		t.Error("it was told of others than there are")
	}
}

// TestATrailThatHasGrownAgainIsNotTheSame, though it is no shorter when it is looked at again:
// others have changed something in the backup at once.
func TestATrailThatHasGrownAgainIsNotTheSame(t *testing.T) {
	t.Parallel()
	url, one, other, revoked, gone, heard := twoRevoked(t)
	since := other.Since()
	later := mint(t, one)
	check(revokeNow(t, one, later))
	wantTold(t, "of a change", heard, later.Digest)
	if other.Since() != since {
		t.Error("a change is taken for another database")
	}
	run(t.Context(), url, `BEGIN; SET LOCAL session_replication_role = replica;
		DELETE FROM events WHERE token = '`+later.ID+`';
		INSERT INTO events (number, at, actor, action, "user", token, detail) OVERRIDING SYSTEM VALUE
			SELECT number + i, now(), actor, action, "user", token, detail FROM events, generate_series(1, 5) AS i
			WHERE number = (SELECT max(number) FROM events);
		COMMIT`)
	wantTold(t, "afterwards", heard, revoked.Digest, gone.Digest)
	if !other.Since().After(since) {
		t.Error("what was read before is still believed")
	}
}

// TestOfALongTrailOnlyTheEndIsRead, each second.
func TestOfALongTrailOnlyTheEndIsRead(t *testing.T) {
	t.Parallel()
	long(t)
	url := newDatabase(t, "current")
	s := open(t, url)
	run(t.Context(), url, manyTokens+allRevoked+`; ANALYZE`)
	read := func() (entries int64) {
		conn := connect(t.Context(), url)
		check(conn.QueryRow(t.Context(), `SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 'events'`).Scan(&entries))
		check(conn.Close(t.Context()))
		return entries
	}
	ctx, cancel := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { s.Watch(ctx, func(context.Context, ...token.Digest) error { return nil }, nil) })
	await(t, "all", s.Hears)
	time.Sleep(3 * time.Second) // the server tells of what was read with some delay
	first := read()
	time.Sleep(5 * time.Second)
	if n := read() - first; first < 25000 || n > 1000 {
		t.Errorf("%d entries were read at first, and %d in the next five seconds", first, n)
	}
	cancel()
	watcher.Wait()
}

// TestAServersClockThatWasAheadIsForgotten, or nothing would be cached until it is reached.
func TestAServersClockThatWasAheadIsForgotten(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t, "current"))
	told(t, s)
	await(t, "the first answer", s.Hears)
	s.SetSince(s.Now().Add(time.Hour))
	await(t, "the clock to be noticed", func() bool { return !s.Since().After(s.Now()) })
}

// TestARotationIsHeardOf, though it concerns no token.
func TestARotationIsHeardOf(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t, "current"))
	_, err := s.CacheKeys(t.Context()) // makes them
	check(err)
	var newest atomic.Uint32
	inBackground(t, func(ctx context.Context) {
		s.Watch(ctx, func(context.Context, ...token.Digest) error { return nil },
			func(_ context.Context, keys []postgres.CacheKey) { newest.Store(keys[0].Number) })
	})
	await(t, "the first answer", s.Hears)
	rotate(t, s)
	await(t, "the rotation to be heard of", func() bool { return newest.Load() == 2 })
}

// watchFor watches until all that has happened was told.
func watchFor(t *testing.T, s *postgres.Store, forget postgres.Forget) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Watch(ctx, forget, nil)
	}()
	await(t, "all to be heard of", s.Hears)
	cancel()
	<-ended
}

// TestASecondPutBackIsNoticed, though the first was not looked at to its end, and the trail is no
// shorter than where that begins.
func TestASecondPutBackIsNoticed(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	s := open(t, url)
	mint(t, s)
	var broken atomic.Bool
	_ = watched(t, s, func() error {
		if broken.Load() {
			return errors.New("the cache is broken")
		}
		return nil
	})
	check(revokeNow(t, s, mint(t, s)))
	await(t, "all", s.Hears)
	broken.Store(true)
	putBack := func(trail string) {
		t.Helper()
		since := s.Since()
		run(t.Context(), url, `SET session_replication_role = replica; `+trail)
		await(t, "it", func() bool { return s.Since().After(since) })
	}
	putBack(`UPDATE events SET at = at - interval '1 hour'`)
	putBack(`UPDATE events SET at = at - interval '1 hour'`)
	broken.Store(false)
	await(t, "all", s.Hears)
}

// TestAPutBackBeforeAnythingIsHeardIsNoticed: the daemon has just started.
func TestAPutBackBeforeAnythingIsHeardIsNoticed(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	mint(t, open(t, url))
	s := open(t, url)
	since := s.Since()
	run(t.Context(), url, `SET session_replication_role = replica; UPDATE events SET at = at - interval '1 hour'`)
	told(t, s)
	await(t, "it", func() bool { return s.Since().After(since) })
}

// TestWhoHeardOfNothingAsksAgain: meanwhile a backup may have been put back that has all that was
// heard of before.
func TestWhoHeardOfNothingAsksAgain(t *testing.T) {
	t.Parallel()
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	told(t, s)
	await(t, "the first answer", s.Hears)
	since := s.Since()
	time.Sleep(2 * time.Second)
	if s.Since() != since {
		t.Error("all is asked for again while nothing happens")
	}
	proxy.Hang()
	await(t, "that nothing is heard of", func() bool { return !s.Hears() })
	proxy.Heal()
	await(t, "an answer", s.Hears)
	if !s.Since().After(since) {
		t.Error("what was read meanwhile is believed")
	}
}
