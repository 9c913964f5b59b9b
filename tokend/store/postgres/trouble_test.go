package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestServerEndsIdleConnections, which costs no login: another one is taken.
func TestServerEndsIdleConnections(t *testing.T) {
	url := newDatabase(t, "current")
	endConnections(t, open(t, url), url)
}

// endConnections does so at the server's URL, and has tokens looked up meanwhile.
func endConnections(t *testing.T, s *postgres.Store, url string) {
	t.Helper()
	r := mint(t, s)
	admin := connect(t.Context(), url)
	defer func() { check(admin.Close(context.Background())) }()
	var ended atomic.Bool
	var logins sync.WaitGroup
	for range 4 {
		logins.Go(func() {
			for !ended.Load() {
				if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.ID != r.ID {
					t.Errorf("got %q, %v", got.ID, err)
					return
				}
			}
		})
	}
	for range 30 {
		_, err := admin.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'
			AND query NOT IN ('', 'select pg_is_in_recovery()')`) // as it is while the connection is made
		check(err)
		time.Sleep(10 * time.Millisecond)
	}
	ended.Store(true)
	logins.Wait()
}

// TestWhichErrorsAreOfABrokenConnection, so that a login takes another.
func TestWhichErrorsAreOfABrokenConnection(t *testing.T) {
	refused := &pgconn.PgError{Severity: "FATAL", Code: "28000"}
	_, unmade := pgconn.Connect(t.Context(), "postgres://tokend@127.0.0.1:1/d")
	for _, c := range []struct {
		err    error
		broken bool
	}{
		{nil, false},
		{errors.New("another"), false},
		{context.DeadlineExceeded, false},
		{io.ErrUnexpectedEOF, true},
		{fmt.Errorf("read: %w", syscall.ECONNRESET), true},
		{&pgconn.PgError{Severity: "ERROR", Code: "57014"}, false},
		{&pgconn.PgError{Severity: "FATAL", Code: "57014"}, true},
		{&pgconn.PgError{Severity: "ФАТАЛ", SeverityUnlocalized: "FATAL", Code: "57014"}, true},
		{errors.Join(unmade, &pgconn.PgError{Severity: "FATAL", Code: "57P01"}), true}, // it is just ending
		{errors.Join(unmade, &pgconn.PgError{Severity: "FATAL", Code: "57P02"}), true},
		{&pgconn.PgError{Severity: "ERROR", Code: "08P01", Message: "server conn crashed?"}, true}, // a pooler's
		{refused, true},
		{errors.Join(unmade, refused), false},
		{unmade, false},
	} {
		if got := postgres.Broken(c.err); got != c.broken {
			t.Errorf("%v: got %t", c.err, got)
		}
	}
}

// TestACommitThatASessionsEndKeptFromBeingAnsweredMayBeDone: it may have waited for a standby. What the
// server refuses, and what it has ended before, is not.
func TestACommitThatASessionsEndKeptFromBeingAnsweredMayBeDone(t *testing.T) {
	for _, c := range []struct {
		err  error
		sure bool
	}{
		{&pgconn.PgError{Severity: "FATAL", Code: "57P01"}, false},
		{&pgconn.PgError{Severity: "FATAL", Code: "57P02"}, false},
		{io.ErrUnexpectedEOF, false},
		{context.DeadlineExceeded, false},
		{&pgconn.PgError{Severity: "FATAL", Code: "25P03"}, true},
		{&pgconn.PgError{Severity: "ERROR", Code: "40001"}, true},
		{&pgconn.PgError{Severity: "ERROR", Code: "53100"}, true},
	} {
		if got := postgres.Unsure(c.err); errors.Is(got, token.ErrUnsure) == c.sure || !errors.Is(got, c.err) {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
}

// trailLock is 0x746f6b64.
const trailLock = "1953459044"

// TestChangesThatWaitHoldNoLoginUp: another program holds the lock of the audit trail.
func TestChangesThatWaitHoldNoLoginUp(t *testing.T) {
	url := newDatabase(t, "current")
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Connections: 4})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	holder := connect(t.Context(), url)
	_, err = holder.Exec(t.Context(), `SELECT pg_advisory_lock(`+trailLock+`)`)
	check(err)
	var changes sync.WaitGroup
	for range 10 {
		changes.Go(func() {
			_ = s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}) // waits
		})
	}
	await(t, "the changes", func() bool {
		var waiting int
		check(holder.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`).Scan(&waiting))
		return waiting > 0
	})
	for range 20 {
		if _, err := s.Lookup(t.Context(), r.Digest); err != nil {
			t.Error(err)
		}
	}
	check(holder.Close(t.Context()))
	changes.Wait()
}

// TestNoticeComesWithTheChange: what wakes the others comes with the change itself.
func TestNoticeComesWithTheChange(t *testing.T) {
	url := newDatabase(t, "current")
	s := open(t, url)
	r := mint(t, s)
	keysOf(t, s, 1, 0)
	conn := connect(t.Context(), url)
	defer func() { check(conn.Close(context.Background())) }()
	_, err := conn.Exec(t.Context(), `LISTEN tokend`)
	check(err)
	for what, do := range map[string]func(){
		"disabled": func() { change(t, s, true) },
		"revoked":  func() { revoke(t, s, token.Selection{ID: r.ID}) },
		"rotated":  func() { rotate(t, s) },
	} {
		do()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := conn.WaitForNotification(ctx); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
	}
}

// TestAcknowledgedIsOnDisk whatever the database's owner has set.
func TestAcknowledgedIsOnDisk(t *testing.T) {
	for set, want := range map[string]string{"off": "on", "remote_apply": "remote_apply"} {
		name := newName(t, "current")
		run(t.Context(), server.URL("postgres"), `ALTER DATABASE `+name+` SET synchronous_commit = `+set)
		got, err := open(t, server.URL(name)).Setting(t.Context(), "synchronous_commit")
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %s", set, got, err, want)
		}
	}
}

// TestStandbyIsRefused: nobody tells it of changes.
func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	long(t)
	primary, err := servers.StartPostgreSQL("fsync=off")
	check(err)
	t.Cleanup(func() { check(primary.Stop()) })
	check(open(t, primary.URL("postgres")).Ping(t.Context()))
	standby, err := primary.Standby()
	check(err)
	t.Cleanup(func() { check(standby.Stop()) })
	_, err = postgres.Open(t.Context(), postgres.Config{URL: standby.URL("postgres")})
	if !errors.Is(err, store.ErrUnwritable) || !errors.Is(err, pgconn.ErrStandbyConnection) { // before anything is asked of it
		t.Errorf("got error %v", err)
	}
	if _, err := postgres.Vacant(t.Context(), postgres.Config{URL: standby.URL("postgres")}); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("to import into it: got error %v", err)
	}
}

// TestQuotaHoldsForMintsAtOnce, by several daemons.
func TestQuotaHoldsForMintsAtOnce(t *testing.T) {
	url := newDatabase(t, "current")
	stores := []*postgres.Store{open(t, url), open(t, url)}
	var mints sync.WaitGroup
	for i := range 20 {
		mints.Go(func() {
			err := stores[i%2].Mint(t.Context(), newRecord(), token.Quota{Tokens: 7}, token.Event{At: created})
			if err != nil && !errors.Is(err, token.ErrTooMany) {
				t.Error(err)
			}
		})
	}
	mints.Wait()
	records, err := stores[0].Records(t.Context(), token.Page{Limit: 100})
	if err != nil || len(records) != 7 {
		t.Errorf("%d tokens were made, %v, want 7", len(records), err)
	}
}

// TestFullDiskOfTheServer: no token is made, and that says why; all others go on.
func TestFullDiskOfTheServer(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, url string) {
		s := open()
		r := mint(t, s)
		run(t.Context(), url, `CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
			CREATE TRIGGER full_disk BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION full_disk()`)
		other := newRecord()
		err := s.Mint(t.Context(), other, token.Quota{}, token.Event{At: created, Action: token.TokenCreated})
		if !errors.Is(err, store.ErrUnwritable) || !strings.Contains(err.Error(), "the server's disk is full; free some space: ") {
			t.Errorf("got error %v", err)
		}
		if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.ID != r.ID {
			t.Errorf("a look-up got %q, %v", got.ID, err)
		}
		if _, err := s.Lookup(t.Context(), other.Digest); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("of what was not made: %v", err)
		}
		run(t.Context(), url, `DROP TRIGGER full_disk ON tokens`)
		mint(t, s)
	})
}

// TestACommitThatTheServerRefuses leaves nothing open: nothing was changed, and no token is told of.
func TestACommitThatTheServerRefuses(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, url string) {
		s := open()
		r := mint(t, s)
		run(t.Context(), url, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
			CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
		records, err := s.Revoke(t.Context(), token.Selection{ID: r.ID}, created, token.Event{At: created, Action: token.TokenRevoked})
		if err == nil || errors.Is(err, token.ErrUnsure) || len(records) > 0 {
			t.Errorf("revoke: %d tokens, %v", len(records), err)
		}
		digests, changed, err := s.SetDisabled(t.Context(), r.Owner, true, created, token.Event{At: created, Action: token.UserDisabled})
		if err == nil || errors.Is(err, token.ErrUnsure) || len(digests) > 0 || changed {
			t.Errorf("disable: %d tokens, changed %t, %v", len(digests), changed, err)
		}
		if got, err := s.Lookup(t.Context(), r.Digest); err != nil || !got.Revoked.IsZero() || got.OwnerDisabled {
			t.Errorf("it is changed: %v, %v", got, err)
		}
	})
}

// TestAServerThatEndsIsToldAsThat: somebody is still connected.
func TestAServerThatEndsIsToldAsThat(t *testing.T) {
	ending, err := servers.StartPostgreSQL()
	check(err)
	t.Cleanup(func() { check(ending.Stop()) })
	conn := connect(t.Context(), ending.URL("postgres"))
	defer func() { check(conn.Close(context.Background())) }()
	check(ending.End())
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: ending.URL("postgres")})
		if err != nil {
			wantSentence(t, "a server that ends", err, "PostgreSQL is starting, recovering from a crash, or shutting down; wait")
			return
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it is still there")
		}
	}
}
