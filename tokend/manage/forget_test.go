package manage_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

// change takes rights from tokens of alice's, or gives them back.
type change struct {
	do    func(context.Context, *fixture, token.Record) error
	shows func(token.Record) bool // whether a record is as it is to be
	all   bool                    // of hers, not this one alone
}

func revoked(r token.Record) bool  { return !r.Revoked.IsZero() }
func disabled(r token.Record) bool { return r.OwnerDisabled }

var changes = map[string]change{
	"revoke": {func(ctx context.Context, f *fixture, r token.Record) error {
		_, err := f.Revoke(ctx, actor, r.ID)
		return err
	}, revoked, false},
	"revoke all": {func(ctx context.Context, f *fixture, _ token.Record) error {
		_, err := f.RevokeAll(ctx, actor, "alice")
		return err
	}, revoked, true},
	"disable": {func(ctx context.Context, f *fixture, _ token.Record) error { return f.Disable(ctx, actor, "alice") }, disabled, true},
}

func TestWhatWasChangedIsForgotten(t *testing.T) {
	for name, change := range changes {
		f := newFixture(t, manage.Limits{})
		one, record := f.create(t, "alice", "")
		two, _ := f.create(t, "alice", "")
		f.create(t, "bob", "")
		same(t, "forgotten by making tokens", f.forgotten, []token.Digest{})
		want := []token.Digest{one.Digest()}
		if change.all {
			want = append(want, two.Digest())
		}
		if err := change.do(t.Context(), f, record); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name, sorted(f.forgotten), sorted(want))
	}
}

func sorted(digests []token.Digest) []token.Digest {
	return slices.SortedFunc(slices.Values(digests), func(a, b token.Digest) int { return bytes.Compare(a[:], b[:]) })
}

func TestEnablingIsForgottenToo(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	secret, _ := f.create(t, "alice", "")
	if err := cmp.Or(f.Disable(t.Context(), actor, "alice"), f.Enable(t.Context(), actor, "alice")); err != nil {
		t.Fatal(err)
	}
	same(t, "forgotten", f.forgotten, []token.Digest{secret.Digest(), secret.Digest()})
}

// TestDisablingAgainIsForgottenAgain: it may not have been when it was done the first time.
func TestDisablingAgainIsForgottenAgain(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	secret, _ := f.create(t, "alice", "")
	if err := cmp.Or(f.Disable(t.Context(), actor, "alice"), f.Disable(t.Context(), actor, "alice")); err != nil {
		t.Fatal(err)
	}
	same(t, "forgotten", f.forgotten, []token.Digest{secret.Digest(), secret.Digest()})
}

// TestTheStoreIsChangedBeforeItIsForgotten: else a check in between would fill
// the cache with the old record.
func TestTheStoreIsChangedBeforeItIsForgotten(t *testing.T) {
	for name, change := range changes {
		shown := 0
		f := newForgetting(t, manage.Limits{}, func(ctx context.Context, f *fixture, digests ...token.Digest) error {
			for _, digest := range digests {
				if r, err := f.store.Lookup(ctx, digest); err == nil && change.shows(r) {
					shown++
				}
			}
			return nil
		})
		_, record := f.create(t, "alice", "")
		if err := change.do(t.Context(), f, record); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if shown != 1 {
			t.Errorf("%s: %d of 1 changed when it was forgotten", name, shown)
		}
	}
}

func TestAChangeIsKeptThoughForgettingFails(t *testing.T) {
	broken := errors.New("the cache is broken")
	for name, change := range changes {
		f := newForgetting(t, manage.Limits{}, func(context.Context, *fixture, ...token.Digest) error { return broken })
		secret, record := f.create(t, "alice", "")
		err := change.do(t.Context(), f, record)
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "the change is kept, but old answers may be believed for a while: ") {
			t.Errorf("%s: got %v", name, err)
		}
		if !change.shows(f.kept(t, secret.Digest())) || len(f.events(t)) != 2 {
			t.Errorf("%s: the change was not kept", name)
		}
	}
}

func TestACallerWhoGivesUpDoesNotKeepItFromBeingForgotten(t *testing.T) {
	for name, change := range changes {
		ctx, giveUp := context.WithDeadline(t.Context(), time.Now().Add(time.Hour))
		f := newForgetting(t, manage.Limits{}, func(ctx context.Context, _ *fixture, _ ...token.Digest) error {
			giveUp()
			if _, limited := ctx.Deadline(); limited {
				return errors.New("it must be over when the caller's time is")
			}
			return ctx.Err()
		})
		_, record := f.create(t, "alice", "")
		if err := change.do(ctx, f, record); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ctx.Err() == nil || len(f.forgotten) != 1 {
			t.Errorf("%s: %d were forgotten", name, len(f.forgotten))
		}
	}
}

func TestWhatTheStoreRefusesIsNotForgotten(t *testing.T) {
	for name, change := range changes {
		f := newFixture(t, manage.Limits{})
		secret, record := f.create(t, "alice", "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		lines := f.logged(t, func() {
			if err := change.do(ctx, f, record); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: got %v", name, err)
			}
		})
		if change.shows(f.kept(t, secret.Digest())) || len(f.forgotten) > 0 || len(lines) > 0 {
			t.Errorf("%s: %d were forgotten, logged was %v", name, len(f.forgotten), lines)
		}
	}
}

// unsureStore makes its changes and says that their time was over.
type unsureStore struct {
	*sqlite.Store
	err error
}

func (s unsureStore) Revoke(ctx context.Context, what token.Selection, at time.Time, e token.Event) ([]token.Record, error) {
	records, err := s.Store.Revoke(ctx, what, at, e)
	return records, cmp.Or(err, s.err)
}

func (s unsureStore) SetDisabled(ctx context.Context, user string, disabled bool, at time.Time, e token.Event) ([]token.Digest, bool, error) {
	digests, changed, err := s.Store.SetDisabled(ctx, user, disabled, at, e)
	return digests, changed, cmp.Or(err, s.err)
}

func (s unsureStore) Mint(ctx context.Context, r token.Record, q token.Quota, e token.Event) error {
	return cmp.Or(s.Store.Mint(ctx, r, q, e), s.err)
}

func (s unsureStore) Adopt(ctx context.Context, records []token.Record, e token.Event) ([]string, error) {
	kept, err := s.Store.Adopt(ctx, records, e)
	return kept, cmp.Or(err, s.err)
}

func TestATokenThatMayHaveBeenMadeIsNamed(t *testing.T) {
	for _, left := range []error{context.DeadlineExceeded, context.Canceled, token.ErrUnsure} {
		f := newFixture(t, manage.Limits{})
		f.Manager = manage.New(manage.Config{Store: unsureStore{f.store, left}, Logger: slog.New(slog.DiscardHandler)})
		secret, _, err := f.Create(t.Context(), actor, manage.Request{User: "alice"})
		if secret.Reveal() != "" || !errors.Is(err, left) {
			t.Fatalf("got %v", err)
		}
		records, listed := f.store.Records(t.Context(), token.Page{Limit: 10})
		if len(records) != 1 || listed != nil || !strings.HasSuffix(err.Error(), "nobody has its secret: revoke "+records[0].ID) {
			t.Errorf("got %v, with %d kept (%v)", err, len(records), listed)
		}
	}
}

// TestWhatMayHaveBeenChangedIsForgottenToo, though the caller's time is over, and
// that it could not be is said.
func TestWhatMayHaveBeenChangedIsForgottenToo(t *testing.T) {
	for _, failure := range []error{nil, errors.New("the cache is broken")} {
		for name, change := range changes {
			f := newFixture(t, manage.Limits{})
			secret, record := f.create(t, "alice", "")
			ctx, giveUp := context.WithDeadline(t.Context(), time.Now().Add(time.Hour))
			f.Manager = manage.New(manage.Config{
				Store: unsureStore{f.store, context.DeadlineExceeded}, Logger: slog.New(slog.DiscardHandler),
				Forget: func(ctx context.Context, digests ...token.Digest) error {
					giveUp()
					if _, limited := ctx.Deadline(); limited || ctx.Err() != nil {
						t.Errorf("%s: it must be over when the caller's time is", name)
					}
					f.forgotten = append(f.forgotten, digests...)
					return failure
				},
			})
			err := change.do(ctx, f, record)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it may have been done all the same: do it again") {
				t.Errorf("%s: got %v", name, err)
			}
			if failure != nil && !errors.Is(err, failure) {
				t.Errorf("%s: got %v, which does not say that %v", name, err, failure)
			}
			same(t, name, f.forgotten, []token.Digest{secret.Digest()})
		}
	}
}
