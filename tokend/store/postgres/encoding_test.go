package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestLabelsAreKeptInTheDatabasesEncoding, and what it has no character for is refused.
func TestLabelsAreKeptInTheDatabasesEncoding(t *testing.T) {
	pooler := newPooler(t, server)
	for name, openAt := range map[string]func(database string) *postgres.Store{
		"direct": func(database string) *postgres.Store { return open(t, server.URL(database)) },
		"pooled": func(database string) *postgres.Store { return openPooled(t, pooler, server, database) },
	} {
		database := newName(t, "template0 ENCODING 'LATIN1'")
		s := openAt(database)
		r := newRecord()
		r.Label = "Zoë"
		check(s.Mint(t.Context(), r, token.Quota{}, token.Event{At: created}))
		got, err := s.Lookup(t.Context(), r.Digest)
		if err != nil || got.Label != "Zoë" {
			t.Errorf("%s: read back as %q, %v", name, got.Label, err)
		}
		conn := connect(t.Context(), server.URL(database))
		var kept []byte
		check(conn.QueryRow(t.Context(), `SELECT convert_to(label, 'LATIN1') FROM tokens`).Scan(&kept))
		check(conn.Close(context.Background()))
		if string(kept) != "Zo\xeb" {
			t.Errorf("%s: kept as %q", name, kept)
		}
		r = newRecord()
		r.Label = "🔑"
		err = s.Mint(t.Context(), r, token.Quota{}, token.Event{At: created})
		if err == nil || !strings.Contains(err.Error(), "the database's encoding has no such character; leave it out") {
			t.Errorf("%s: 🔑: got error %v", name, err)
		}
		if _, err := s.Lookup(t.Context(), r.Digest); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("%s: the refused token: %v", name, err)
		}
	}
}
