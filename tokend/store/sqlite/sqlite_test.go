package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tokend/tokend/store/sqlite"
	"tokend/tokend/store/storetest"
	"tokend/tokend/token"
)

var now = time.Date(2026, time.March, 4, 5, 6, 7, 891_234_000, time.UTC)

func TestSQLiteKeepsThePromisesOfEveryStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, newPath(t)) })
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "tokend.db") }

// open opens the database until the test ends.
func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s *sqlite.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// openFails returns why the database cannot be opened.
func openFails(t *testing.T, path string) error {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err == nil {
		closeStore(t, s)
		t.Fatalf("%s was opened", path)
	}
	return err
}

func newRecord() token.Record {
	secret := token.Mint()
	return token.Record{ID: token.NewID(), Digest: secret.Digest(), Owner: "alice", Hint: secret.Hint(), Label: "laptop", Created: now}
}

var (
	created = token.Event{At: now, Actor: "uid=0(root)", Action: token.TokenCreated}
	revoked = token.Event{At: now, Actor: "uid=0(root)", Action: token.TokenRevoked}
)

func mint(t testing.TB, s *sqlite.Store) token.Record {
	t.Helper()
	r := newRecord()
	if err := s.Mint(t.Context(), r, token.Quota{}, created); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantRecord(t testing.TB, s *sqlite.Store, want token.Record) {
	t.Helper()
	got, err := s.Lookup(t.Context(), want.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// wantSentence fails if the error does not say all of it.
func wantSentence(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// shell is what the sqlite3 shell would do to the file.
func shell(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Whatever writes to the file, a digest is one.
func TestOnlyDigestsAreKept(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	r := mint(t, s)
	db := shell(t, path)
	for _, other := range []string{"", "irt_secret", r.Digest.String()[1:], r.Digest.String() + "0", strings.ToUpper(r.Digest.String()), "g" + r.Digest.String()[1:]} {
		if _, err := db.ExecContext(t.Context(), `UPDATE tokens SET digest = ? WHERE id = ?`, other, r.ID); err == nil || !strings.Contains(err.Error(), "CHECK") {
			t.Errorf("%q: got %v", other, err)
		}
	}
	wantRecord(t, s, r)
}

func TestEverythingIsThereAfterReopening(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept, gone := mint(t, s), mint(t, s)
	if _, err := s.Revoke(t.Context(), token.Selection{ID: gone.ID}, now, revoked); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.SetDisabled(t.Context(), "alice", true, now, created); err != nil {
		t.Fatal(err)
	}
	before, err := s.Events(t.Context(), token.EventPage{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	s = open(t, path)
	kept.OwnerDisabled, gone.OwnerDisabled, gone.Revoked = true, true, now
	wantRecord(t, s, kept)
	wantRecord(t, s, gone)
	after, err := s.Events(t.Context(), token.EventPage{Limit: 10})
	if diff := cmp.Diff(before, after); diff != "" || len(after) != 4 || err != nil {
		t.Errorf("events (-before +after):\n%s%v", diff, err)
	}
}

func TestClosingTwiceIsNoErrorAndAClosedStoreSaysSo(t *testing.T) {
	s := open(t, newPath(t))
	closeStore(t, s)
	closeStore(t, s)
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
	if err := s.Mint(t.Context(), newRecord(), token.Quota{}, created); err == nil {
		t.Error("a closed store mints")
	}
}

func TestAuditTrailIsAppendOnly(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	mint(t, s)
	db := shell(t, path)
	for _, statement := range []string{
		`UPDATE events SET actor = 'nobody'`,
		`UPDATE OR REPLACE events SET number = 7`,
		`DELETE FROM events`,
		`INSERT OR REPLACE INTO events SELECT number, at, 'nobody', action, user, token, detail FROM events`,
		`INSERT INTO events SELECT * FROM events WHERE true ON CONFLICT DO UPDATE SET actor = 'nobody'`,
	} {
		_, err := db.ExecContext(t.Context(), statement)
		wantSentence(t, err, "the audit trail is append-only")
	}
	events, err := s.Events(t.Context(), token.EventPage{Limit: 10})
	if err != nil || len(events) != 1 || events[0].Actor != created.Actor {
		t.Errorf("got events %v and error %v", events, err)
	}
}

func TestConnectionsAreSetUpAsTheyShouldBe(t *testing.T) {
	s := open(t, newPath(t))
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "temp_store": "2",
	} {
		if got, err := s.WriterPragma(t.Context(), name); got != want || err != nil {
			t.Errorf("writer's %s is %q (%v), want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"query_only": "1", "temp_store": "2", "busy_timeout": "800", // less than a look-up may take
	} {
		if got, err := s.ReaderPragma(t.Context(), name); got != want || err != nil {
			t.Errorf("reader's %s is %q (%v), want %q", name, got, err, want)
		}
	}
}

func TestTablesAreStrict(t *testing.T) {
	path := newPath(t)
	open(t, path)
	var lax int
	err := shell(t, path).QueryRowContext(t.Context(), `SELECT count(*) FROM pragma_table_list
		WHERE strict = 0 AND name IN ('users', 'tokens', 'events')`).Scan(&lax)
	if lax != 0 || err != nil {
		t.Errorf("%d tables are not strict (%v)", lax, err)
	}
}

func TestEveryMethodIsMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: newPath(t), Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	ctx := context.Background()
	unknown := newRecord()
	r := mint(t, s)
	wantRecord(t, s, r)
	_, lookup := s.Lookup(ctx, unknown.Digest)
	_, revoke := s.Revoke(ctx, token.Selection{ID: unknown.ID}, now, revoked)
	_, _, disable := s.SetDisabled(ctx, "nobody", true, now, created)
	_, records := s.Records(ctx, token.Page{Limit: 0})
	_, users := s.Users(ctx, token.UserPage{Limit: 1000}, now, token.Forever)
	_, events := s.Events(ctx, token.EventPage{})
	_, count := s.Count(ctx, now, token.Forever)
	if err := errors.Join(users, count, s.Ping(ctx)); err != nil {
		t.Fatal(err)
	}
	if slices.Contains([]error{s.Mint(ctx, r, token.Quota{}, created), lookup, revoke, disable, records, events}, nil) {
		t.Error("what should have failed has not")
	}

	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, labels := range []string{
		`operation="lookup",outcome="ok"`, `operation="lookup",outcome="not_found"`,
		`operation="mint",outcome="ok"`, `operation="mint",outcome="refused"`,
		`operation="revoke",outcome="not_found"`, `operation="disable",outcome="not_found"`,
		`operation="records",outcome="error"`, `operation="users",outcome="ok"`, `operation="events",outcome="error"`,
		`operation="count",outcome="ok"`, `operation="ping",outcome="ok"`,
	} {
		if line := "tokend_store_request_duration_seconds_count{" + labels + "} 1\n"; !strings.Contains(page.Body.String(), line) {
			t.Errorf("not exported: %s", line)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	s := open(b, newPath(b))
	var digests []token.Digest
	for range 1000 {
		digests = append(digests, mint(b, s).Digest)
	}
	look := func(i int) {
		if _, err := s.Lookup(context.Background(), digests[i%len(digests)]); err != nil {
			b.Error(err)
		}
	}
	b.Run("One", func(b *testing.B) {
		for i := range b.N {
			look(i)
		}
	})
	b.Run("Many", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				look(i)
			}
		})
	})
}

func BenchmarkMint(b *testing.B) {
	s := open(b, newPath(b))
	for b.Loop() {
		mint(b, s)
	}
}

func TestErrorNamesWhatWasAskedFor(t *testing.T) {
	s := open(t, newPath(t))
	for disabled, want := range map[bool]string{true: "disable: ", false: "enable: "} {
		if _, _, err := s.SetDisabled(t.Context(), "nobody", disabled, now, created); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
