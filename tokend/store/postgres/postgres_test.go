package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store"
	"tokend/tokend/store/postgres"
	"tokend/tokend/store/storetest"
)

// server is a real one, for all tests here.
var server *servers.PostgreSQL

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if server, err = servers.StartPostgreSQL("max_connections=1000", "fsync=off"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { check(server.Stop()) }()
		run(context.Background(), server.URL("postgres"), "CREATE DATABASE current")
		s, err := postgres.Open(context.Background(), postgres.Config{URL: server.URL("current")})
		check(err)
		check(s.Close())
		return m.Run()
	}())
}

func TestPostgreSQLKeepsThePromisesOfEveryStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return open(t, newDatabase(t, "current"))
	})
}

// TestOfManyDaemonsOneUpgradesTheSchema, and the others wait for it.
func TestOfManyDaemonsOneUpgradesTheSchema(t *testing.T) {
	url := newDatabase(t, "template0")
	var told lines
	var daemons sync.WaitGroup
	for range 10 {
		daemons.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&told, nil))})
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(s.Ping(t.Context()), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	daemons.Wait()
	if n := told.count("no token is known"); n != 1 {
		t.Errorf("%d say that they made the tables, want one", n)
	}
	var applied int
	conn := connect(t.Context(), url)
	check(conn.QueryRow(t.Context(), `SELECT count(*) FROM goose_db_version WHERE version_id = 1`).Scan(&applied))
	check(conn.Close(t.Context()))
	if applied != 1 {
		t.Errorf("the first migration was applied %d times", applied)
	}
}

// TestAnUpgradeHasTheTimeThatItNeeds: of a large table an index is not made in seconds.
// Here it is a lock that it waits for.
func TestAnUpgradeHasTheTimeThatItNeeds(t *testing.T) {
	t.Parallel()
	long(t)
	url := newDatabase(t, "current")
	run(t.Context(), url, `DROP TABLE cache_keys; DROP INDEX users_disabled, tokens_by_digest; DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP scheme, DROP api; DELETE FROM goose_db_version WHERE version_id > 1`)
	conn := connect(t.Context(), url)
	_, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE users`)
	check(err)
	var holder sync.WaitGroup
	holder.Go(func() {
		time.Sleep(6 * time.Second)
		check(conn.Close(context.Background()))
	})
	defer holder.Wait()
	var log lines
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"statement_timeout": "1h", "lock_timeout": "300ms"} {
		if got, err := s.UpgradeSetting(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %s", name, got, err, want)
		}
	}
	_, err = s.CacheKeys(t.Context())
	check(errors.Join(err, s.Close()))
	if log.count("schema upgraded") != 1 {
		t.Error("it says nothing of the upgrade")
	}
}

// TestAnUpgradeKeepsNoLoginWaiting: a backup reads the table that is to be changed, and the upgrade waits for it.
func TestAnUpgradeKeepsNoLoginWaiting(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	run(t.Context(), url, `DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP COLUMN scheme, DROP COLUMN api; DELETE FROM goose_db_version WHERE version_id > 4`)
	dump, login := connect(t.Context(), url), connect(t.Context(), url)
	_, err := dump.Exec(t.Context(), `BEGIN; LOCK TABLE tokens IN ACCESS SHARE MODE`)
	check(err)
	_, err = login.Exec(t.Context(), `SET statement_timeout = '1s'`)
	check(err)
	var log lines
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		if _, err := login.Exec(t.Context(), `SELECT id FROM tokens WHERE digest = ''`); err != nil {
			t.Fatalf("a login's look-up: %v", err)
		}
	}
	if n := log.count("the upgrade waits for somebody who has a table locked"); n != 1 {
		t.Errorf("the log says %d times that it waits", n)
	}
	check(dump.Close(t.Context()))
	check(<-opened)
	check(login.Close(t.Context()))
}

// lockedBefore is a database of an older schema, with a table that somebody has locked.
func lockedBefore(t *testing.T, steps, mode string) (url string, holder *pgx.Conn) {
	t.Helper()
	url = newDatabase(t, "current")
	run(t.Context(), url, steps)
	holder = connect(t.Context(), url)
	_, err := holder.Exec(t.Context(), `BEGIN; LOCK TABLE tokens IN `+mode+` MODE`)
	check(err)
	return url, holder
}

// TestAnUpgradeThatCannotBeMadeSaysWhatToDo, and each step has its own time.
func TestAnUpgradeThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	defer postgres.SetUpgradePatience(2 * time.Second)()
	url, reader := lockedBefore(t, `DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP COLUMN scheme, DROP COLUMN api; DELETE FROM goose_db_version WHERE version_id > 4`, "ACCESS SHARE")
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	wantSentence(t, "it is locked", err, "somebody has had a table locked for 2s: see pg_stat_activity, wait until that is over (it may be a backup), and start tokend again")
	check(reader.Close(t.Context()))
	check(open(t, url).Ping(t.Context()))

	url, writer := lockedBefore(t, `DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP COLUMN scheme, DROP COLUMN api; DROP INDEX tokens_by_digest; DELETE FROM goose_db_version WHERE version_id > 3`, "ROW EXCLUSIVE")
	reader = connect(t.Context(), url)
	_, err = reader.Exec(t.Context(), `BEGIN; LOCK TABLE tokens IN ACCESS SHARE MODE`)
	check(err)
	var ends sync.WaitGroup
	for conn, held := range map[*pgx.Conn]time.Duration{writer: 1500 * time.Millisecond, reader: 3500 * time.Millisecond} {
		ends.Go(func() {
			time.Sleep(held)
			check(conn.Close(context.Background()))
		})
	}
	check(open(t, url).Ping(t.Context()))
	ends.Wait()
}

// TestWhoWaitsForAnotherDaemonsUpgradeDoesNotWaitForATable: the time in which a table may be locked does not go on.
func TestWhoWaitsForAnotherDaemonsUpgradeDoesNotWaitForATable(t *testing.T) {
	long(t)
	defer postgres.SetUpgradePatience(6 * time.Second)()
	url, reader := lockedBefore(t, `DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP COLUMN scheme, DROP COLUMN api; DELETE FROM goose_db_version WHERE version_id > 4`, "ACCESS SHARE")
	var log lines
	opened := make(chan error, 1)
	go func() {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	await(t, "the lock to be found", func() bool { return log.count("the upgrade waits for somebody") > 0 })
	other := connect(t.Context(), url)
	_, err := other.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, lock.DefaultLockID)
	check(err)
	_, err = reader.Exec(t.Context(), `ROLLBACK`)
	check(err)
	time.Sleep(9 * time.Second)
	_, err = reader.Exec(t.Context(), `BEGIN; LOCK TABLE tokens IN ACCESS SHARE MODE`)
	check(err)
	check(other.Close(t.Context()))
	time.Sleep(2 * time.Second) // in which it finds the table locked more than once
	check(reader.Close(t.Context()))
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestAnUpgradeEndsAVacuum that the server has begun by itself, as one does that waits for long.
func TestAnUpgradeEndsAVacuum(t *testing.T) {
	t.Parallel()
	own, err := servers.StartPostgreSQL("fsync=off", "autovacuum_naptime=1s", "autovacuum_vacuum_cost_delay=100ms", "autovacuum_vacuum_cost_limit=1")
	check(err)
	t.Cleanup(func() { check(own.Stop()) })
	url := own.URL("postgres")
	check(open(t, url).Close())
	run(t.Context(), url, `DROP TABLE uses, accounts, tickets, web_key; ALTER TABLE tokens DROP COLUMN scheme, DROP COLUMN api; DELETE FROM goose_db_version WHERE version_id > 4; INSERT INTO users VALUES ('alice');
		INSERT INTO tokens SELECT sha512(i::text::bytea), i, 'alice', '', '', now() FROM generate_series(1, 20000) AS i; DELETE FROM tokens`)
	admin := connect(t.Context(), url)
	defer func() { check(admin.Close(context.Background())) }()
	await(t, "a vacuum", func() (is bool) {
		check(admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'autovacuum: %public.tokens%')`).Scan(&is))
		return is
	})
	check(open(t, url).Ping(t.Context()))
}

// TestAnUpgradeByAnotherIsWaitedFor, though it takes longer than anything else is waited for.
func TestAnUpgradeByAnotherIsWaitedFor(t *testing.T) {
	t.Parallel()
	long(t)
	url := newDatabase(t, "template0")
	other := connect(t.Context(), url)
	_, err := other.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, lock.DefaultLockID)
	check(err)
	var done atomic.Bool
	var holder sync.WaitGroup
	holder.Go(func() {
		time.Sleep(33 * time.Second)
		done.Store(true)
		check(other.Close(context.Background()))
	})
	defer holder.Wait()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if !done.Load() {
		t.Error("it is not waited for")
	}
	check(s.Close())
}

func TestNewerSchemaIsRefused(t *testing.T) {
	url := newDatabase(t, "current")
	run(t.Context(), url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)`)
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	newer, ok := errors.AsType[*store.NewerSchemaError](err)
	if !ok || newer.Database != 4711 {
		t.Errorf("got error %v", err)
	}
}

func TestAuditTrailIsAppendOnly(t *testing.T) {
	url := newDatabase(t, "current")
	s := open(t, url)
	mint(t, s)
	conn := connect(t.Context(), url)
	defer func() { check(conn.Close(t.Context())) }()
	for _, change := range []string{`UPDATE events SET actor = 'nobody'`, `DELETE FROM events`, `TRUNCATE events`} {
		if _, err := conn.Exec(t.Context(), change); err == nil || !strings.Contains(err.Error(), "the audit trail is append-only") {
			t.Errorf("%s: got error %v", change, err)
		}
	}
}

// TestALookupGoesByTheIndexesThatAreMadeForIt, however many users and tokens there are: of the
// users it meets only those who are disabled.
func TestALookupGoesByTheIndexesThatAreMadeForIt(t *testing.T) {
	url := newDatabase(t, "current")
	run(t.Context(), url, `SET session_replication_role = replica; `+manyTokens+ // looks no owner up
		`INSERT INTO users (name) SELECT 'user' || n FROM generate_series(1, 10000) AS n; ANALYZE users, tokens`)
	s := open(t, url)
	record := mint(t, s)
	for range 10 { // the plan for all values is made after some for each
		if _, err := s.Lookup(t.Context(), record.Digest); err != nil {
			t.Fatal(err)
		}
	}
	check(s.Close()) // the server counts what a connection did when it ends, at the latest
	used := map[string]int64{}
	for wait := 0; used["users_disabled"] == 0 && wait < 100; wait++ {
		time.Sleep(50 * time.Millisecond)
		conn := connect(t.Context(), url)
		rows, err := conn.Query(t.Context(), `SELECT indexrelname, idx_scan FROM pg_stat_user_indexes`)
		check(err)
		var index string
		var scans int64
		_, err = pgx.ForEachRow(rows, []any{&index, &scans}, func() error { used[index] = scans; return nil })
		check(errors.Join(err, conn.Close(t.Context())))
	}
	for index, rival := range map[string]string{"users_disabled": "users_pkey", "tokens_by_digest": "tokens_pkey"} {
		if used[index] < 10 || used[rival] >= 10 {
			t.Errorf("%s was used %d times, %s %d times", index, used[index], rival, used[rival])
		}
	}
}

// TestATimeThatWouldStandForNoneIsAnError: the token would be good again.
func TestATimeThatWouldStandForNoneIsAnError(t *testing.T) {
	url := newDatabase(t, "current")
	s := open(t, url)
	r := mint(t, s)
	run(t.Context(), url, `UPDATE tokens SET revoked = '0001-01-01 00:00:00Z'`)
	_, err := s.Lookup(t.Context(), r.Digest)
	wantSentence(t, "look-up", err, "the first of the year 1, which would stand for none")
}
