package manage_test

import (
	"context"
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
		users, err := f.Users(t.Context())
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
