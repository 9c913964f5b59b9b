package postgres_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// wantTold waits for these, in whatever order, and nothing else.
func wantTold(t *testing.T, what string, got <-chan token.Digest, want ...token.Digest) {
	t.Helper()
	want = slices.Clone(want)
	for len(want) > 0 {
		select {
		case d := <-got:
			i := slices.Index(want, d)
			if i < 0 {
				t.Errorf("%s: told of a token that nothing was done to", what)
				return
			}
			want = slices.Delete(want, i, i+1)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not told of %d tokens", what, len(want))
		}
	}
}

// listens tells the sessions of Watch in pg_stat_activity, by what they asked last.
const listens = `query ~ '^LISTEN|clock_timestamp|FROM events'`

func change(t *testing.T, s *postgres.Store, disabled bool) {
	t.Helper()
	action := token.UserEnabled
	if disabled {
		action = token.UserDisabled
	}
	if _, _, err := s.SetDisabled(t.Context(), "alice", disabled, created, token.Event{At: created, Action: action}); err != nil {
		t.Fatal(err)
	}
}

func revoke(t *testing.T, s *postgres.Store, selection token.Selection) {
	t.Helper()
	if _, err := s.Revoke(t.Context(), selection, created, token.Event{At: created, Action: token.TokenRevoked}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryDaemonHearsOfEveryChange(t *testing.T) {
	url := newDatabase(t, "current")
	one, other := open(t, url), open(t, url)
	first, second, third := mint(t, one), mint(t, one), mint(t, one)
	if other.Hears() {
		t.Error("hears before it listens")
	}
	heard := told(t, other)
	await(t, "the first answer", other.Hears)
	revoke(t, one, token.Selection{ID: first.ID})
	wantTold(t, "revoked by its ID", heard, first.Digest)
	change(t, one, true)
	wantTold(t, "disabled", heard, second.Digest, third.Digest)
	change(t, one, false)
	wantTold(t, "enabled", heard, second.Digest, third.Digest)
	revoke(t, one, token.Selection{Owner: "alice"})
	wantTold(t, "all revoked", heard, second.Digest, third.Digest)
}

// TestWhatHappenedWhileTheConnectionWasAwayIsHeardOf: the server ends it, lets no other
// in, and meanwhile a token is revoked.
func TestWhatHappenedWhileTheConnectionWasAwayIsHeardOf(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	admin := connect(t.Context(), server.URL("postgres"))
	defer func() { check(admin.Close(context.Background())) }()
	one := open(t, url)
	r := mint(t, one)
	if err := one.Ping(t.Context()); err != nil { // which keeps a connection
		t.Fatal(err)
	}
	var log lines
	other, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	check(err)
	t.Cleanup(func() { check(other.Close()) })
	heard := told(t, other)

	var database string
	conn := connect(t.Context(), url)
	check(conn.QueryRow(t.Context(), `SELECT current_database()`).Scan(&database))
	check(conn.Close(t.Context()))
	exec := func(sql string, args ...any) int64 {
		tag, err := admin.Exec(t.Context(), sql, args...)
		check(err)
		return tag.RowsAffected()
	}
	const ended = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND ` + listens
	await(t, "a listener", func() bool { return exec(ended, database) > 0 })
	exec(`ALTER DATABASE ` + database + ` ALLOW_CONNECTIONS false`)
	exec(ended, database) // one that was made meanwhile
	await(t, "the loss to be logged", func() bool { return log.count("are not heard of") > 1 })
	await(t, "the loss to be known", func() bool { return !other.Hears() })
	if err := other.WatchErr(); err == nil || !strings.Contains(err.Error(), "not heard of: the server lets nobody connect to this database now") || !strings.Contains(err.Error(), "not currently accepting connections") {
		t.Errorf("it says why: %v", err)
	}
	if n := log.count("are not heard of"); n > 3 { // ended, and refused: but not once for each try
		t.Errorf("the log says so %d times", n)
	}
	revoke(t, one, token.Selection{ID: r.ID})
	exec(`ALTER DATABASE ` + database + ` ALLOW_CONNECTIONS true`)
	wantTold(t, "afterwards", heard, r.Digest)
	await(t, "the end of the loss", func() bool { return other.WatchErr() == nil })
	said := log.count("are not heard of")
	await(t, "a listener again", func() bool { return exec(ended, database) > 0 })
	await(t, "the next loss to be logged", func() bool { return log.count("are not heard of") > said })
	await(t, "its end to be logged", func() bool { return log.count("are heard of again") == 2 })
	time.Sleep(1500 * time.Millisecond) // it asks again
	if n := log.count("are heard of again"); n != 2 {
		t.Errorf("the log tells %d times of the ends of two losses", n)
	}
	await(t, "a third loss, by silence", func() bool {
		other.SetAsked(time.Now().Add(-postgres.Deaf))
		err = other.WatchErr()
		return err != nil // unless it has just asked
	})
	if !strings.Contains(err.Error(), "are not heard of, since 2") {
		t.Errorf("a third loss has the cause of one before: %v", err)
	}
}

// TestSinceWhenNothingIsHeardIsSaid: a silent connection ends in no error before its time.
func TestSinceWhenNothingIsHeardIsSaid(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t, "current"))
	s.SetAsked(time.Now().Add(-postgres.Deaf))
	if err := s.WatchErr(); err == nil || !strings.Contains(err.Error(), "are not heard of, since 2") {
		t.Errorf("got %v", err)
	}
}

func TestNowIsTheServers(t *testing.T) {
	s := open(t, anHourAhead(t))
	if ahead := time.Until(s.Now()); ahead < 59*time.Minute || ahead > 61*time.Minute {
		t.Errorf("it is %s ahead of this machine's, want an hour", ahead)
	}
}

// anHourAhead is the URL of a database whose clock is.
func anHourAhead(t *testing.T) (url string) {
	t.Helper()
	name := newName(t, "current")
	run(t.Context(), server.URL(name), `CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
			AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$;
		ALTER DATABASE `+name+` SET search_path = public, pg_catalog`)
	return server.URL(name)
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestChangesAtOnceAreAllHeardOf: of two that are under way together, the one with the
// lower number may not be committed after the other was heard of.
func TestChangesAtOnceAreAllHeardOf(t *testing.T) {
	url := newDatabase(t, "current")
	stores := []*postgres.Store{open(t, url), open(t, url), open(t, url)}
	var all []token.Digest
	ids := make(chan string, 600)
	for range cap(ids) {
		r := mint(t, stores[0])
		all = append(all, r.Digest)
		ids <- r.ID
	}
	close(ids)
	heard := told(t, open(t, url))
	var revoking sync.WaitGroup
	for i := range 24 {
		revoking.Go(func() {
			for id := range ids {
				revoke(t, stores[i%len(stores)], token.Selection{ID: id})
			}
		})
	}
	wantTold(t, "at once", heard, all...)
	revoking.Wait()
}
