// Package manage makes, lists and revokes tokens and disables users. It is the
// one door for the web pages, the HTTP API and the command line: it holds the
// rules and the limits, and every change says who made it.
//
// Whether a token opens anything is verify's matter.
package manage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/token"
)

// Store keeps tokens. Every change is one transaction with its audit entries,
// and has survived a crash when the call returns. Where an error leaves open
// whether it was made, what it is about is returned all the same.
//
// It is larger than verify's Source on purpose: a source that can only look up,
// such as somebody else's table, is no Store.
type Store interface {
	Mint(ctx context.Context, r token.Record, q token.Quota, e token.Event) error
	Adopt(ctx context.Context, r []token.Record, e token.Event) (ids []string, err error)
	Revoke(ctx context.Context, s token.Selection, at time.Time, e token.Event) ([]token.Record, error)
	Rotate(ctx context.Context, old, r token.Record, until time.Time, q token.Quota, ended, made token.Event) error
	SetDisabled(ctx context.Context, user string, disabled bool, at time.Time, e token.Event) (digests []token.Digest, changed bool, err error)
	Reader
}

// Reader is the part of a Store that changes nothing.
type Reader interface {
	Known(ctx context.Context, digests []token.Digest) (n int, err error)
	Records(ctx context.Context, p token.Page) ([]token.Record, error)
	Record(ctx context.Context, id string) (token.Record, error)
	Users(ctx context.Context, p token.UserPage, now time.Time, limit token.Life) ([]token.User, error)
	Events(ctx context.Context, p token.EventPage) ([]token.Event, error)
	Count(ctx context.Context, now time.Time, limit token.Life) (map[token.State]int, error)
}

// Config is what a Manager is made of.
type Config struct {
	Store Store
	// Forget makes every check that begins after it has returned see the change
	// that was made to these tokens. It is called after each change that takes
	// rights away, before that change is reported done.
	Forget func(context.Context, ...token.Digest) error
	// Rotate replaces the key of a cache that several daemons share, and writes the event.
	// Nil: there is no such cache.
	Rotate     func(context.Context, token.Event) error
	Limits     Limits
	KnoxPrefix string // of imported tokens of Knox
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Limits are the rules of [tokens] and [names]. They may change while the daemon runs.
type Limits struct {
	DefaultExpiry token.Life // of a token made without one
	MaxExpiry     token.Life // Forever: no limit
	MaxPerUser    int        // active tokens; 0: no limit
	Names         token.Names
}

// Manager makes the changes. Its methods may be called concurrently.
type Manager struct {
	store  Store
	forget func(context.Context, ...token.Digest) error
	rotate func(context.Context, token.Event) error
	limits atomic.Pointer[Limits]
	log    *slog.Logger
	now    func() time.Time

	knoxPrefix string
}

// New returns a Manager.
func New(cfg Config) *Manager {
	m := &Manager{store: cfg.Store, forget: cfg.Forget, rotate: cfg.Rotate, log: cfg.Logger, now: cfg.Now, knoxPrefix: cfg.KnoxPrefix}
	if m.now == nil {
		m.now = time.Now
	}
	m.Apply(cfg.Limits)
	registerMetrics(cfg.Registerer, m)
	return m
}

// Apply takes over new limits for what is made from now on.
func (m *Manager) Apply(l Limits) { m.limits.Store(&l) }

// ErrInvalid is a request that breaks a rule; the wrapping error says which,
// and what would be right.
var ErrInvalid = errors.New("invalid request")

func invalid(err error) error { return fmt.Errorf("%w: %w", ErrInvalid, err) }

// Request is for a new token.
type Request struct {
	User   string
	Label  string
	Expiry string // as token.ParseLife reads it; empty: the default
	API    bool   // whether it is to open the HTTP API and other software, beside iRODS
}

// Create makes a token for a user and returns its secret, which is nowhere
// else and cannot be had again. Errors are ErrInvalid, token.ErrTooMany,
// token.ErrUserDisabled, or the store's.
func (m *Manager) Create(ctx context.Context, actor string, req Request) (token.Secret, token.Record, error) {
	limits, now := m.limits.Load(), token.Time(m.now())
	expires, err := req.check(limits, now)
	if err != nil {
		return token.Secret{}, token.Record{}, err
	}
	secret := token.Mint()
	record := token.Record{
		ID: token.NewID(), Digest: secret.Digest(), Owner: req.User, Hint: secret.Hint(),
		Label: req.Label, API: req.API, Created: now, Expires: expires,
	}
	event := token.Event{At: now, Actor: actor, Action: token.TokenCreated, Detail: described(record)}
	quota := token.Quota{Tokens: limits.MaxPerUser, MaxLife: limits.MaxExpiry}
	if err := m.store.Mint(ctx, record, quota, event); err != nil {
		return token.Secret{}, token.Record{}, m.explain(err, record)
	}
	m.log.InfoContext(ctx, "token created", "user", req.User, "token", record.ID, "expires", expiry(expires), "by", actor)
	return secret, record, nil
}

// check holds the request against the rules and returns when the token expires.
func (r Request) check(limits *Limits, now time.Time) (time.Time, error) {
	if err := token.CheckUser(r.User); err != nil {
		return time.Time{}, invalid(err)
	}
	names := limits.Names
	if owner := names.Owner(r.User); owner != r.User && names.Owner(owner) == owner {
		return time.Time{}, invalid(fmt.Errorf("by [names] the iRODS user %s comes in with the tokens of %s, and with no others: make it for %[2]s", r.User, owner))
	}
	if err := token.CheckLabel(r.Label); err != nil {
		return time.Time{}, invalid(err)
	}
	life := limits.DefaultExpiry
	if r.Expiry != "" {
		var err error
		if life, err = token.ParseLife(r.Expiry); err != nil {
			return time.Time{}, invalid(err)
		}
	}
	if limits.MaxExpiry != token.Forever && (life == token.Forever || life > limits.MaxExpiry) {
		return time.Time{}, invalid(fmt.Errorf("an expiry of %s is more than this site allows: at most %s", life, limits.MaxExpiry))
	}
	expires, err := life.From(now)
	if err != nil {
		return time.Time{}, invalid(err)
	}
	return expires, nil
}

// explain turns a store's refusal into what the user can do.
func (m *Manager) explain(err error, record token.Record) error {
	switch {
	case errors.Is(err, token.ErrTooMany):
		return fmt.Errorf("%w; revoke some first", err) // it says how many there are, and may be
	case errors.Is(err, token.ErrUserDisabled):
		return fmt.Errorf("%w: %s gets no token before the user is enabled again", token.ErrUserDisabled, record.Owner)
	}
	if unanswered(err) {
		return fmt.Errorf("%w; the token may have been made all the same, and nobody has its secret: revoke %s", err, record.ID)
	}
	return fmt.Errorf("%w; no token was made", err)
}

// described is what the audit trail says of a new token.
func described(r token.Record) string {
	text := "expires " + expiry(r.Expires)
	if r.API {
		text += ", for the API, too"
	}
	if r.Label != "" {
		text += fmt.Sprintf(", label %q", r.Label)
	}
	return text
}

func expiry(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}
