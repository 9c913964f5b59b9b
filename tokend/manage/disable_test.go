package manage_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

func TestAUserIsDisabledUntilEnabled(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	secret, _ := f.create(t, "alice", "")
	f.create(t, "bob", "")
	since := func(want time.Time) {
		t.Helper()
		users, err := f.Users(t.Context(), token.UserPage{})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "users", users, []token.User{{Name: "alice", Disabled: want, Tokens: 1}, {Name: "bob", Tokens: 1}})
		same(t, "alice's token", f.kept(t, secret.Digest()).OwnerDisabled, !want.IsZero())
	}
	change := func(how func(context.Context, string, string) error) {
		t.Helper()
		if err := how(t.Context(), actor, "alice"); err != nil {
			t.Fatal(err)
		}
	}

	since(time.Time{})
	f.now = f.now.Add(time.Minute)
	disabled := token.Time(f.now)
	change(f.Disable)
	since(disabled)
	f.now = f.now.Add(time.Minute)
	change(f.Disable)
	since(disabled)
	change(f.Enable)
	since(time.Time{})
	change(f.Enable)
	since(time.Time{})
	same(t, "her token is not revoked", f.kept(t, secret.Digest()).Revoked, time.Time{})
}

func TestWhoCannotBeDisabledIsSaid(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, row := range []struct {
		user  string
		kind  error
		words string
	}{
		{"", manage.ErrInvalid, "the user name is empty"},
		{"alice#zone", manage.ErrInvalid, "without #zone"},
		{"alice\n", manage.ErrInvalid, "is no iRODS user name"},
		{"nobody", token.ErrNotFound, `not found: there is no user "nobody"; a user is known from the first token on`},
	} {
		refuses(t, "disable "+row.user, f.Disable(t.Context(), actor, row.user), row.kind, row.words)
		refuses(t, "enable "+row.user, f.Enable(t.Context(), actor, row.user), row.kind, row.words)
	}
	same(t, "audit trail", f.events(t), []token.Event{})
}

// refusingStore changes nothing.
type refusingStore struct {
	manage.Store
	err error
}

func (s refusingStore) SetDisabled(context.Context, string, bool, time.Time, token.Event) ([]token.Digest, bool, error) {
	return nil, false, s.err
}

func (s refusingStore) Mint(context.Context, token.Record, token.Quota, token.Event) error {
	return s.err
}

var errRefused = errors.New("the disk is full")

// TestAChangeThatWasNotMadeSaysSo, and one that may have been does not.
func TestAChangeThatWasNotMadeSaysSo(t *testing.T) {
	m := manage.New(manage.Config{Store: refusingStore{err: errRefused}, Logger: slog.New(slog.DiscardHandler)})
	if err := m.Disable(t.Context(), actor, "alice"); err == nil || err.Error() != "the disk is full; nothing was changed" {
		t.Errorf("disable: %v", err)
	}
	if _, _, err := m.Create(t.Context(), actor, manage.Request{User: "alice"}); err == nil || err.Error() != "the disk is full; no token was made" {
		t.Errorf("create: %v", err)
	}
	for _, open := range []error{context.DeadlineExceeded, context.Canceled, token.ErrUnsure} { // of a user without tokens
		m = manage.New(manage.Config{Store: refusingStore{err: open}, Logger: slog.New(slog.DiscardHandler)})
		if err := m.Disable(t.Context(), actor, "alice"); err == nil || err.Error() != open.Error()+"; it may have been done all the same: do it again until there is an answer" {
			t.Errorf("disable: %v", err)
		}
	}
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice", "")
	f.Manager = manage.New(manage.Config{
		Store: unsureStore{f.store, errRefused}, Logger: slog.New(slog.DiscardHandler),
		Forget: func(context.Context, ...token.Digest) error { return nil },
	})
	if err := f.Disable(t.Context(), actor, "alice"); err == nil || strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "it may have been done all the same") {
		t.Errorf("it may have been made: %v", err)
	}
}
