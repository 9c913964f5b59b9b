package postgres_test

import (
	"context"
	"strings"
	"testing"

	"tokend/tokend/store/postgres"
)

// TestVacantDatabaseIsNotChanged by looking at it.
func TestVacantDatabaseIsNotChanged(t *testing.T) {
	url := newDatabase(t, "template0")
	name, err := postgres.Vacant(t.Context(), postgres.Config{URL: url})
	if err != nil || name == "" {
		t.Errorf("got %q, %v", name, err)
	}
	conn := connect(t.Context(), url)
	defer func() { check(conn.Close(context.Background())) }()
	var tables int
	check(conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables))
	if tables != 0 {
		t.Errorf("there are %d tables now", tables)
	}
	if _, err := postgres.Vacant(t.Context(), postgres.Config{URL: newDatabase(t, "current")}); err != nil {
		t.Errorf("with tokend's tables: %v", err)
	}
}

func TestUnfitDatabaseIsRefused(t *testing.T) {
	for want, prepare := range map[string]string{
		"has schema version 4711, this tokend knows":                              `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)`,
		"it has tables of another program: make a database for tokend alone":      `DROP TABLE goose_db_version`,
		"it has tables of another program: make a database for tokend a":          `DROP TABLE goose_db_version, users CASCADE; DROP TABLE tokens CASCADE`,
		"its user may make no tables: make that user the database's owner":        `DROP SCHEMA public CASCADE`,
		"it has users, tokens or an audit trail already, with which others":       `INSERT INTO users VALUES ('alice')`,
		"a table is missing; does [store] url, or the pooler that it names, lead": `DROP TABLE tokens CASCADE`,
	} {
		url := newDatabase(t, "current")
		run(t.Context(), url, prepare)
		_, err := postgres.Vacant(t.Context(), postgres.Config{URL: url})
		wantSentence(t, prepare, err, "look at database", want)
	}
}

func TestDatabaseThatIsNotInUTF8IsRefused(t *testing.T) {
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		name := "in_" + strings.ToLower(encoding)
		run(t.Context(), server.URL("postgres"), `CREATE DATABASE `+name+` TEMPLATE template0 LOCALE 'C' ENCODING `+encoding)
		t.Cleanup(func() { check(server.DropDatabase(context.Background(), name)) })
		want := "its encoding is " + encoding + ", which does not hold every label: make one with createdb --encoding UTF8"
		_, err := postgres.Vacant(t.Context(), postgres.Config{URL: server.URL(name)})
		wantSentence(t, encoding, err, want)
		_, err = open(t, server.URL(name)).Import(t.Context(), someRows(), nil)
		wantSentence(t, encoding, err, want)
	}
}
