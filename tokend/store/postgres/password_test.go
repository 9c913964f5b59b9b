package postgres_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
)

// TestPasswordIsAskedForWithEachConnection, so that a new one needs no restart; and no
// error shows it.
func TestPasswordIsAskedForWithEachConnection(t *testing.T) {
	url := newDatabase(t, "template0")
	conn := connect(t.Context(), url)
	defer func() { check(conn.Close(context.Background())) }()
	exec := func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		check(err)
	}
	var database string
	check(conn.QueryRow(t.Context(), `SELECT current_database()`).Scan(&database))
	exec(`CREATE ROLE ` + servers.WithPassword + ` LOGIN PASSWORD 'hunter1'`)
	t.Cleanup(func() { run(context.Background(), server.URL("postgres"), `DROP ROLE `+servers.WithPassword) })
	t.Cleanup(func() {
		run(context.Background(), server.URL("postgres"), `ALTER DATABASE `+database+` OWNER TO tokend`)
	})
	exec(`ALTER DATABASE ` + database + ` OWNER TO ` + servers.WithPassword)

	password := "hunter2"
	cfg := postgres.Config{
		URL:      server.URLAs(servers.WithPassword, database),
		Password: func() (string, error) { return password, nil },
	}
	if _, err := postgres.Open(t.Context(), cfg); err == nil || strings.Contains(err.Error(), "hunter") || !strings.Contains(err.Error(), "password") {
		t.Errorf("with a wrong password: %v", err)
	}
	password = "hunter1"
	s, err := postgres.Open(t.Context(), cfg)
	check(err)
	exec(`ALTER ROLE ` + servers.WithPassword + ` PASSWORD 'hunter3'`)
	password = "hunter3"
	exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + servers.WithPassword + `'`)
	await(t, "a connection with the new password", func() bool { return s.Ping(t.Context()) == nil })
	check(s.Close())
	file := filepath.Join(t.TempDir(), "pgpass")
	check(os.WriteFile(file, []byte("*:*:*:*:hunter3\n"), 0o600))
	t.Setenv("PGPASSFILE", file)
	unknown := cfg
	unknown.Password = nil
	if _, err := postgres.Open(t.Context(), unknown); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("with one in a file of which the configuration knows nothing: %v", err)
	}
	t.Setenv("PGPASSFILE", "")
	exec(`REASSIGN OWNED BY ` + servers.WithPassword + ` TO tokend`)

	noPassword := errors.New("the file is empty")
	cfg.Password = func() (string, error) { return "", noPassword }
	if _, err := postgres.Open(t.Context(), cfg); !errors.Is(err, noPassword) {
		t.Errorf("without one: %v, want %v", err, noPassword)
	}
	if _, err := pgx.Connect(t.Context(), cfg.URL); err == nil {
		t.Error("the server lets the role in without a password, so that all of this shows nothing")
	}
}
