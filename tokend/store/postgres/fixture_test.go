package postgres_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

var created = time.Date(2026, time.March, 4, 5, 6, 7, 891_234_000, time.UTC)

// newDatabase makes a copy of a database, for as long as the test runs, and returns its URL.
func newDatabase(t *testing.T, template string) string {
	t.Helper()
	return server.URL(newName(t, template))
}

// newName is the same, but returns its name.
func newName(t *testing.T, template string) string {
	t.Helper()
	name, err := server.NewDatabase(t.Context(), template)
	check(err)
	t.Cleanup(func() { check(server.DropDatabase(context.Background(), name)) })
	return name
}

func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Connections: 20})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	return s
}

func connect(ctx context.Context, url string) *pgx.Conn {
	conn, err := pgx.Connect(ctx, url)
	check(err)
	return conn
}

func run(ctx context.Context, url, sql string) {
	conn := connect(ctx, url)
	_, err := conn.Exec(ctx, sql)
	check(err)
	check(conn.Close(ctx))
}

func newRecord() token.Record {
	secret := token.Mint()
	return token.Record{ID: token.NewID(), Digest: secret.Digest(), Owner: "alice", Hint: secret.Hint(), Label: "laptop", Created: created}
}

func mint(t *testing.T, s *postgres.Store) token.Record {
	t.Helper()
	r := newRecord()
	event := token.Event{At: created, Actor: "uid=0(root)", Action: token.TokenCreated}
	if err := s.Mint(t.Context(), r, token.Quota{}, event); err != nil {
		t.Fatal(err)
	}
	return r
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// lines is a log that may be written to concurrently.
type lines struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(p)
}

func (l *lines) all() string {
	l.Lock()
	defer l.Unlock()
	return l.text.String()
}

func (l *lines) count(words string) int {
	l.Lock()
	defer l.Unlock()
	return strings.Count(l.text.String(), words)
}

// long leaves out, where tests are to be quick, what waits for ten seconds and more: make test has all.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}
