package manage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/manage"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

// actor makes all changes here, unless a test says otherwise.
const actor = "uid=0(root)"

// begin is when a fixture's clock starts: finer than what is kept.
var begin = time.Date(2026, time.March, 4, 5, 6, 7, 891_234_567, time.FixedZone("", 3600))

// fixture is a Manager over a real store, with a clock that stands still.
type fixture struct {
	*manage.Manager
	store     *sqlite.Store
	registry  *prometheus.Registry
	log       bytes.Buffer
	now       time.Time
	forgotten []token.Digest // in the order of the calls
}

func newFixture(t *testing.T, limits manage.Limits) *fixture {
	t.Helper()
	return newForgetting(t, limits, func(_ context.Context, _ *fixture, _ ...token.Digest) error { return nil })
}

// newForgetting returns a fixture whose Forget notes the digests, then calls
// the given one.
func newForgetting(t *testing.T, limits manage.Limits, forget func(context.Context, *fixture, ...token.Digest) error) *fixture {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "tokend.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{store: store, registry: prometheus.NewRegistry(), now: begin}
	f.Manager = manage.New(manage.Config{
		Store: store, Limits: limits, Registerer: f.registry,
		Forget: func(ctx context.Context, digests ...token.Digest) error {
			f.forgotten = append(f.forgotten, digests...)
			return forget(ctx, f, digests...)
		},
		Logger: slog.New(slog.NewJSONHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { return f.now },
	})
	return f
}

// create makes a token that never expires, unless the expiry says otherwise.
func (f *fixture) create(t *testing.T, user, expiry string) (token.Secret, token.Record) {
	t.Helper()
	secret, record, err := f.Create(t.Context(), actor, manage.Request{User: user, Expiry: expiry})
	if err != nil {
		t.Fatal(err)
	}
	return secret, record
}

// kept is the record that the store has under the digest.
func (f *fixture) kept(t *testing.T, digest token.Digest) token.Record {
	t.Helper()
	record, err := f.store.Lookup(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func (f *fixture) events(t *testing.T) []token.Event {
	t.Helper()
	events, err := f.store.Events(t.Context(), token.EventPage{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// unnumbered takes from events the numbers, which the store chooses.
func unnumbered(events []token.Event) []token.Event {
	events = slices.Clone(events)
	for i := range events {
		events[i].Number = 0
	}
	return events
}

// line is what is logged of a change.
type line struct {
	Level, Msg, User, Token, Expires, By, Err string
}

// logged returns the lines that f writes.
func (f *fixture) logged(t *testing.T, do func()) []line {
	t.Helper()
	f.log.Reset()
	do()
	var lines []line
	for text := range strings.Lines(f.log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, l)
	}
	return lines
}

// same fails if got is not want; nil and empty are the same.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// refuses fails if err is not of the kind, or does not say the words.
func refuses(t *testing.T, what string, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: got error %v, want %v", what, err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

// hides fails if the text shows a secret, or what the store finds it by.
func hides(t *testing.T, what, text string, secret token.Secret) {
	t.Helper()
	whole := secret.Reveal()
	for _, part := range []string{whole[:16], whole[16:32], whole[26:], secret.Digest().String()} {
		if strings.Contains(text, part) {
			t.Errorf("%s shows the secret: %s", what, strings.ReplaceAll(text, part, "(here)"))
		}
	}
}
