// Package verify is the verdict: may this user come in with this secret? It
// judges a record afresh at every login, and says why not.
//
// Records come from a cache, or from the store behind it. How old a record may
// be to be believed, and what happens when the store is away, is decided here;
// how tokens are made and revoked is manage's matter.
package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"tokend/cache"
	"tokend/tokend/token"
)

// Source finds records by digest; token.ErrNotFound is its word for none. Any
// other error means that it cannot say.
type Source interface {
	Lookup(context.Context, token.Digest) (token.Record, error)
}

// Cache keeps encoded records. An error of it costs time and never a verdict.
type Cache interface {
	Get(ctx context.Context, key string) (cache.Entry, error)
	Fill(ctx context.Context, key string, seen, value []byte, life time.Duration) error
	Bury(ctx context.Context, life time.Duration, keys ...string) error
}

// Config is what a Verifier is made of.
type Config struct {
	Source     Source
	Cache      Cache
	CacheTier  string // the metrics' name for Cache: "memory"
	Settings   Settings
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
	// Heard is until when all changes by others were heard of, and passed to Forget, by
	// time.Now. Zero: they are not heard of. Where the cache may lack tombstones of later
	// ones, the store is asked as if every record were too old. Nil: always until now.
	Heard func() time.Time
	// Since is from when on the store is the one that it is now, by Now: of what was read
	// before, it is asked as if every record were too old. Nil: always.
	Since func() time.Time
	// Proved reports whether what was looked up since then, by time.Now, is of the store whose
	// changes are heard of. What is not is never cached. Nil: it is.
	Proved func(time.Time) bool
}

// Settings may change while the daemon runs.
type Settings struct {
	TTL       time.Duration // a record younger than this is believed without asking the store
	Stale     time.Duration // how much longer while the store cannot say; 0: not at all
	MaxExpiry token.Life    // no token is valid for longer, whatever its record says
}

const (
	// lookupTimeout is how long the source may take.
	lookupTimeout = time.Second
	// unknownLife is how long "there is no such token" is believed, for at most
	// maxUnknown digests. A digest can't become known by chance: secrets are
	// random.
	unknownLife = 5 * time.Second
	maxUnknown  = 10_000
	// clockStep is how far in the future a token may have been made.
	clockStep = time.Minute
	// clockLeap is how far in the future a record may have been read.
	clockLeap = time.Second
)

// Verifier says yes or no. Its methods may be called concurrently.
type Verifier struct {
	source   Source
	records  Cache
	unknown  *cache.Memory
	settings atomic.Pointer[Settings]
	flights  singleflight.Group
	breaker  breaker
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
	heard    func() time.Time
	since    func() time.Time
	proved   func(time.Time) bool
}

// New returns a Verifier.
func New(cfg Config) (*Verifier, error) {
	unknown, err := cache.NewMemory(maxUnknown)
	if err != nil {
		return nil, err
	}
	v := &Verifier{
		source: cfg.Source, records: cfg.Cache, unknown: unknown, breaker: breaker{log: cfg.Logger},
		log: cfg.Logger, metrics: newMetrics(cfg.Registerer, cfg.CacheTier), now: cfg.Now, heard: cfg.Heard, since: cfg.Since, proved: cfg.Proved,
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.heard == nil {
		v.heard = time.Now
	}
	if v.since == nil {
		v.since = func() time.Time { return time.Time{} }
	}
	if v.proved == nil {
		v.proved = func(time.Time) bool { return true }
	}
	v.Apply(cfg.Settings)
	return v, nil
}

// Apply takes over new settings; the next login is judged by them.
func (v *Verifier) Apply(s Settings) { v.settings.Store(&s) }

// Settings are those in force.
func (v *Verifier) Settings() Settings { return *v.settings.Load() }

// StoreAnswers is told that the source has answered what somebody else asked then: if that was in a
// login's time, none gives up early any more because it hung before.
func (v *Verifier) StoreAnswers(ctx context.Context, asked time.Time) {
	if time.Since(asked) < lookupTimeout {
		v.breaker.note(ctx, asked, nil)
	}
}

// Check says whether the user may come in with the secret, writes one line to
// the log and counts it. The secret may be anything; it is not kept.
func (v *Verifier) Check(ctx context.Context, user, secret string) Verdict {
	begun := time.Now()
	verdict := v.judge(ctx, user, secret)
	took := time.Since(begun)
	v.metrics.validated(verdict.Reason, took)
	v.record(ctx, user, verdict, took)
	return verdict
}

func (v *Verifier) judge(ctx context.Context, user, text string) Verdict {
	secret, err := token.Parse(text)
	if err != nil {
		return Verdict{Reason: Malformed, Detail: err}
	}
	record, err := v.find(ctx, secret.Digest())
	switch {
	case errors.Is(err, token.ErrNotFound):
		return Verdict{Reason: Unknown}
	case err != nil:
		return Verdict{Reason: Unavailable, Detail: err}
	}
	return v.decide(record, user)
}

// decide is the rule itself: a record, a name, and one reading of the clock.
func (v *Verifier) decide(record token.Record, user string) Verdict {
	verdict := Verdict{Token: record.ID, Reason: OK}
	now, limit := v.now(), v.settings.Load().MaxExpiry
	switch record.StateAt(now, limit) {
	case token.Active:
		if !record.ExpiresUnder(limit).IsZero() && now.Before(record.Created.Add(-clockStep)) {
			verdict.Reason = Unavailable
			verdict.Detail = fmt.Errorf("it is %s by this machine's clock, before the token was made: nobody can say whether it has expired", now.UTC().Format(time.RFC3339))
			return verdict
		}
	case token.Expired:
		verdict.Reason = Expired
		if record.StateAt(now, 0) == token.Active {
			verdict.Detail = fmt.Errorf("[tokens] max_expiry = %q ended it before its time", limit)
		}
		return verdict
	default:
		verdict.Reason = Revoked
		return verdict
	}
	switch {
	case record.OwnerDisabled:
		verdict.Reason = UserDisabled
	case record.Owner != user:
		verdict.Reason = WrongUser
		verdict.Detail = fmt.Errorf("the token is %s's", record.Owner)
		if err := token.CheckUser(user); err != nil { // such as alice#zone
			verdict.Detail = fmt.Errorf("%w, and %w", verdict.Detail, err)
		}
	}
	return verdict
}

// record writes the verdict's line: who, what and why, and never the secret.
func (v *Verifier) record(ctx context.Context, user string, verdict Verdict, took time.Duration) {
	outcome := "no"
	if verdict.OK() {
		outcome = "yes"
	}
	attrs := []slog.Attr{
		slog.String("user", short(user)),
		slog.String("outcome", outcome),
		slog.String("reason", string(verdict.Reason)),
		slog.String("token", verdict.Token),
		slog.Duration("took", took),
	}
	if verdict.Detail != nil {
		attrs = append(attrs, slog.String("detail", verdict.Detail.Error()))
	}
	v.log.LogAttrs(ctx, slog.LevelInfo, "verdict", attrs...)
}

// short keeps a stranger's name from filling the log, and a token that was
// given for a name out of it.
func short(name string) string {
	const most = 64 // iRODS allows 63
	name = token.RedactName(name)
	if len(name) <= most {
		return name
	}
	return fmt.Sprintf("%s... (%d bytes)", name[:most], len(name))
}
