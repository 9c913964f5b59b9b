package manage_test

import (
	"log/slog"
	"strings"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

var discard = slog.New(slog.DiscardHandler)

func TestEveryChangeIsLogged(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	var record token.Record
	for _, row := range []struct {
		what string
		do   func() error
		want line
	}{
		{"create", func() (err error) {
			_, record, err = f.Create(t.Context(), actor, manage.Request{User: "alice"})
			return err
		}, line{Msg: "token created", Token: "*", Expires: "never"}},
		{"create with an end", func() (err error) {
			_, record, err = f.Create(t.Context(), actor, manage.Request{User: "alice", Expiry: "1h"})
			return err
		}, line{Msg: "token created", Token: "*", Expires: "2026-03-04T05:06:07Z"}},
		{"revoke", func() error { _, err := f.Revoke(t.Context(), actor, record.ID); return err }, line{Msg: "token revoked", Token: "*"}},
		{"disable", func() error { return f.Disable(t.Context(), actor, "alice") }, line{Msg: "user disabled"}},
		{"enable", func() error { return f.Enable(t.Context(), actor, "alice") }, line{Msg: "user enabled"}},
	} {
		lines := f.logged(t, func() {
			if err := row.do(); err != nil {
				t.Errorf("%s: %v", row.what, err)
			}
		})
		row.want.Level, row.want.User, row.want.By = "INFO", "alice", actor
		if row.want.Token != "" {
			row.want.Token = record.ID
		}
		same(t, row.what, lines, []line{row.want})
	}
	lines := f.logged(t, func() {
		if err := f.Enable(t.Context(), actor, "alice"); err != nil {
			t.Error(err)
		}
	})
	same(t, "enable who is enabled", lines, []line{})
}

// TestNoSecretIsLogged covers debug level, and what goes wrong.
func TestNoSecretIsLogged(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 2})
	secret, record, err := f.Create(t.Context(), actor, manage.Request{User: "alice", Label: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	found, _ := f.create(t, "alice", "1h")
	all := func() {
		for _, text := range []string{"alice", record.ID, found.Reveal(), secret.Reveal()[:41]} {
			_, _, _ = f.Create(t.Context(), actor, manage.Request{User: text})
			_, _, _ = f.Create(t.Context(), actor, manage.Request{User: "bob", Label: text})
			_, _, _ = f.Create(t.Context(), actor, manage.Request{User: "bob", Expiry: text})
			_, _ = f.RevokeFound(t.Context(), actor, text)
			_, _ = f.Revoke(t.Context(), actor, text)
			_, _ = f.RevokeAll(t.Context(), actor, text)
			_, _ = f.List(t.Context(), token.Page{Owner: text, After: text})
			_, _ = f.Events(t.Context(), token.EventPage{User: text})
			_, _ = f.Disable(t.Context(), actor, text), f.Enable(t.Context(), actor, text)
		}
		f.scrape(t)
	}
	all()
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	all()
	text := f.log.String()
	for _, line := range []string{"token created", "token revoked", "user disabled", "tokens were not counted"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is not in the log", line)
		}
	}
	hides(t, "the log", text, secret)
	hides(t, "the log", text, found)
}
