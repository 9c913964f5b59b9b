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

// waysToRevoke are all that end a token of alice's.
var waysToRevoke = map[string]func(context.Context, *fixture, token.Secret, token.Record) ([]manage.Ended, error){
	"by ID": func(ctx context.Context, f *fixture, _ token.Secret, r token.Record) ([]manage.Ended, error) {
		record, err := f.Revoke(ctx, actor, r.ID)
		return []manage.Ended{record}, err
	},
	"by secret": func(ctx context.Context, f *fixture, s token.Secret, _ token.Record) ([]manage.Ended, error) {
		record, err := f.RevokeFound(ctx, actor, s.Reveal())
		return []manage.Ended{record}, err
	},
	"by owner": func(ctx context.Context, f *fixture, _ token.Secret, r token.Record) ([]manage.Ended, error) {
		return f.RevokeAll(ctx, actor, r.Owner)
	},
}

func TestARevokedTokenIsKeptAsRevoked(t *testing.T) {
	for way, revoke := range waysToRevoke {
		f := newFixture(t, manage.Limits{})
		secret, record := f.create(t, "alice", "")
		bystander, _ := f.create(t, "bob", "")
		f.now = f.now.Add(time.Minute)
		record.Revoked = token.Time(f.now)
		revoked, err := revoke(t.Context(), f, secret, record)
		if err != nil {
			t.Errorf("%s: %v", way, err)
		}
		same(t, way, revoked, []manage.Ended{{Record: record}})
		same(t, way+", what is kept", f.kept(t, secret.Digest()), record)
		if !f.kept(t, bystander.Digest()).Revoked.IsZero() {
			t.Errorf("%s: another's token was revoked", way)
		}
	}
}

// TestARevokeThatWasNotMadeSaysSo, and one that may have been does not.
func TestARevokeThatWasNotMadeSaysSo(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for way, revoke := range waysToRevoke {
		f := newFixture(t, manage.Limits{})
		secret, record := f.create(t, "alice", "")
		if _, err := revoke(ended, f, secret, record); err == nil || !strings.Contains(err.Error(), "nothing was revoked") || !f.kept(t, secret.Digest()).Revoked.IsZero() {
			t.Errorf("%s: %v", way, err)
		}
	}
	f := newFixture(t, manage.Limits{})
	_, record := f.create(t, "alice", "")
	f.Manager = manage.New(manage.Config{
		Store: unsureStore{f.store, token.ErrUnsure}, Logger: slog.New(slog.DiscardHandler),
		Forget: func(context.Context, ...token.Digest) error { return nil },
	})
	if _, err := f.Revoke(t.Context(), actor, record.ID); !errors.Is(err, token.ErrUnsure) || strings.Contains(err.Error(), "nothing was revoked") {
		t.Errorf("it may have been made: %v", err)
	}
}

func TestRevokingASecondTimeChangesNothing(t *testing.T) {
	for way, revoke := range waysToRevoke {
		f := newFixture(t, manage.Limits{})
		secret, record := f.create(t, "alice", "")
		first, err := revoke(t.Context(), f, secret, record)
		if err != nil {
			t.Fatal(err)
		}
		events := f.events(t)
		f.forgotten = nil
		f.now = f.now.Add(time.Minute)
		lines := f.logged(t, func() {
			again, err := revoke(t.Context(), f, secret, record)
			if err != nil {
				t.Errorf("%s: %v", way, err)
			}
			same(t, way, again, []manage.Ended{{Record: first[0].Record, Before: true}})
		})
		same(t, way+", what is kept", f.kept(t, secret.Digest()), first[0].Record)
		same(t, way+", audit trail", f.events(t), events)
		same(t, way+", log", lines, []line{})
		// Whoever asks again may do so because it was not forgotten before.
		same(t, way+", forgotten", f.forgotten, []token.Digest{secret.Digest()})
	}
}

func TestRevokingAllEndsAllOfOneUser(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	_, first := f.create(t, "alice", "")
	f.now = f.now.Add(time.Second)
	_, expired := f.create(t, "alice", "1s")
	f.now = f.now.Add(time.Second)
	_, active := f.create(t, "alice", "")
	bystander, _ := f.create(t, "bob", "")
	before, err := f.Revoke(t.Context(), actor, first.ID)
	if err != nil {
		t.Fatal(err)
	}

	f.now = f.now.Add(time.Minute)
	expired.Revoked, active.Revoked = token.Time(f.now), token.Time(f.now)
	var revoked []manage.Ended
	lines := f.logged(t, func() { revoked, err = f.RevokeAll(t.Context(), actor, "alice") })
	if err != nil {
		t.Fatal(err)
	}
	same(t, "all of them, newest first", revoked, []manage.Ended{{Record: active}, {Record: expired}, {Record: before.Record, Before: true}})
	same(t, "bob's", f.kept(t, bystander.Digest()).Revoked, time.Time{})
	same(t, "log", lines, []line{
		{Level: "INFO", Msg: "token revoked", User: "alice", Token: active.ID, By: actor},
		{Level: "INFO", Msg: "token revoked", User: "alice", Token: expired.ID, By: actor},
	})
}

func TestWhatCannotBeRevokedIsSaid(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	secret, _ := f.create(t, "alice", "")
	byID := func(text string) error { _, err := f.Revoke(t.Context(), actor, text); return err }
	found := func(text string) error { _, err := f.RevokeFound(t.Context(), actor, text); return err }
	all := func(text string) error { _, err := f.RevokeAll(t.Context(), actor, text); return err }
	for _, row := range []struct {
		what   string
		revoke func(string) error
		text   string
		kind   error
		words  string
	}{
		{"ID", byID, "", manage.ErrInvalid, "the token's ID is empty"},
		{"ID", byID, "nosuchtoken1", token.ErrNotFound, `not found: no token has the ID "nosuchtoken1"`},
		{"ID", byID, "' OR 1=1 --", token.ErrNotFound, `no token has the ID "' OR 1=1 --"`},
		{"secret", found, "", manage.ErrInvalid, "not a token: it is empty"},
		{"secret", found, "swordfish", manage.ErrInvalid, "not a token: it does not begin with irt_"},
		{"secret", found, secret.Reveal()[:41], manage.ErrInvalid, "it has 41 characters instead of 42"},
		{"secret", found, token.Mint().Reveal(), token.ErrNotFound, "not found: no token has this secret"},
		{"secret of Knox", found, strings.Repeat("0123456789abcdef", 4), token.ErrNotFound, "no token that is kept here has this secret; if it is SODAR's, delete it there"},
		{"ID of Knox", byID, "knox-01234567", token.ErrNotFound, `not found: "knox-01234567" is a token of Knox: delete it in SODAR`},
		{"secret behind an unknown prefix", found, "irods_" + strings.Repeat("0a", 32), manage.ErrInvalid, "before its 64 digits stand 6 characters that are not [knox] prefix"},
		{"user", all, "", manage.ErrInvalid, "the user name is empty"},
		{"user", all, "alice#zone", manage.ErrInvalid, "without #zone"},
		{"user", all, "nobody", token.ErrNotFound, `there is no user "nobody"; a user is known from the first token on`},
		{"user", all, "Alice", token.ErrNotFound, `there is no user "Alice"`},
	} {
		err := row.revoke(row.text)
		refuses(t, row.what+" "+row.text, err, row.kind, row.words)
		if errors.Is(err, manage.ErrInvalid) && errors.Is(err, token.ErrNotFound) {
			t.Errorf("%s %q: both invalid and not found", row.what, row.text)
		}
	}
	same(t, "alice's token", f.kept(t, secret.Digest()).Revoked, time.Time{})
	same(t, "forgotten", f.forgotten, []token.Digest{})
}

// TestAFoundTokenThatWasImportedIsRevoked, of either Knox.
func TestAFoundTokenThatWasImportedIsRevoked(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, scheme := range []token.Scheme{token.Knox4, token.Knox5} {
		secret, err := token.ParseKnox(strings.Repeat("0123456789abcdef", 4), "")
		if err != nil {
			t.Fatal(err)
		}
		r := foreign("alice", scheme)
		r.Digest, _ = secret.Digest(scheme)
		if _, err := f.Import(t.Context(), actor, "SODAR", []token.Record{r}, false); err != nil {
			t.Fatal(err)
		}
		ended, err := f.RevokeFound(t.Context(), actor, secret.Reveal())
		if err != nil || ended.Digest != r.Digest || f.kept(t, r.Digest).Revoked.IsZero() {
			t.Errorf("%s: %+v, %v", scheme, ended, err)
		}
	}
}
