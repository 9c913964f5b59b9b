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
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	// Knox finds the tokens of django-rest-knox. Nil: there are none but the source's.
	Knox Knox
	// KnoxSite names its database, and the tables that are set: what is cached of others is not believed.
	KnoxSite string
	// KnoxPrefix is what stands before their digits, but for those that the site made before it had one.
	KnoxPrefix string
	// Used hears of each token of Source that was good for a login. It waits for nothing. Nil: nobody does.
	Used func(token.Use)
	// Proved reports whether what was looked up since then, by time.Now, is of the store whose
	// changes are heard of. What is not is never cached. Nil: it is.
	Proved func(time.Time) bool
}

// Settings may change while the daemon runs.
type Settings struct {
	TTL       time.Duration // a record younger than this is believed without asking the store
	Stale     time.Duration // how much longer while the store cannot say; 0: not at all
	MaxExpiry token.Life    // no token of Source is valid for longer, whatever its record says
	Refresh   time.Duration // TTL for the records of Knox, which tells nobody of changes
	Names     token.Names   // whose tokens are asked for
}

const (
	// lookupTimeout is how long the source may take.
	lookupTimeout = time.Second
	// unknownLife is how long "there is no such token" is believed, for at most
	// maxUnknown digests. A digest can't become known by chance, as secrets are random; one that
	// is imported may have been tried before.
	unknownLife = 5 * time.Second
	maxUnknown  = 10_000
	// clockStep is how far in the future a token may have been made.
	clockStep = time.Minute
	// clockLeap is how far in the future a record may have been read.
	clockLeap = time.Second
)

// Verifier says yes or no. Its methods may be called concurrently.
type Verifier struct {
	settings atomic.Pointer[Settings]
	own      *finder
	knox     *reader // nil: there is none
	prefix   string
	used     func(token.Use)
	knox4    atomic.Bool // whether the last token of Knox that the source had was Knox 4.2's
	log      *slog.Logger
	metrics  *metrics
}

// New returns a Verifier.
func New(cfg Config) (*Verifier, error) {
	v := &Verifier{prefix: cfg.KnoxPrefix, used: cfg.Used, log: cfg.Logger, metrics: newMetrics(cfg.Registerer, cfg.CacheTier)}
	v.Apply(cfg.Settings)
	var err error
	if v.own, err = v.newFinder(cfg); err != nil {
		return nil, err
	}
	if cfg.Knox != nil {
		v.knox, err = v.newReader(cfg)
	}
	return v, err
}

// newFinder returns what finds the source's records.
func (v *Verifier) newFinder(cfg Config) (*finder, error) {
	unknown, err := cache.NewMemory(maxUnknown)
	if err != nil {
		return nil, err
	}
	f := &finder{
		source: cfg.Source, records: cfg.Cache, unknown: unknown, breaker: breaker{log: cfg.Logger},
		log: cfg.Logger, metrics: v.metrics, now: cfg.Now, heard: cfg.Heard, since: cfg.Since, proved: cfg.Proved,
		ages: func() ages {
			s := v.settings.Load()
			return ages{s.TTL, s.TTL + s.Stale}
		},
	}
	if f.now == nil {
		f.now = time.Now
	}
	if f.heard == nil {
		f.heard = time.Now
	}
	if f.since == nil {
		f.since = func() time.Time { return time.Time{} }
	}
	if f.proved == nil {
		f.proved = func(time.Time) bool { return true }
	}
	return f, nil
}

// Apply takes over new settings; the next login is judged by them.
func (v *Verifier) Apply(s Settings) { v.settings.Store(&s) }

// Settings are those in force.
func (v *Verifier) Settings() Settings { return *v.settings.Load() }

// StoreAnswers is told that the source has answered what somebody else asked then: if that was in a
// login's time, none gives up early any more because it hung before.
func (v *Verifier) StoreAnswers(ctx context.Context, asked time.Time) {
	if time.Since(asked) < lookupTimeout {
		v.own.breaker.note(ctx, asked, nil)
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
	if v.used != nil && verdict.OK() && !strings.HasPrefix(verdict.Token, token.KnoxID) {
		v.used(token.Use{Token: verdict.Token, At: v.own.now()})
	}
	return verdict
}

// Forget makes sure that no check which begins after it has returned believes
// anything about these tokens of the source that was read before. It is called when a
// change that takes rights away has been made in the store.
func (v *Verifier) Forget(ctx context.Context, digests ...token.Digest) error {
	return v.own.forget(ctx, digests...)
}

func (v *Verifier) judge(ctx context.Context, user, text string) Verdict {
	secret, err := token.Parse(text)
	if err == nil {
		record, err := v.own.find(ctx, secret.Digest())
		return v.decide(v.own, record, err, user)
	}
	knox, no := token.ParseKnox(text, v.prefix)
	switch {
	case no == nil && v.knox != nil:
		record, err := v.knox.findOne(ctx, knox)
		if err != nil {
			if before, may, ok := v.findFromBefore(ctx, knox, &err); ok {
				verdict := v.decide(v.own, before, nil, user)
				if !may && (verdict.Reason == OK || verdict.Reason == WrongUser) {
					verdict.Reason, verdict.Detail = UserDisabled, errNotActive
				}
				return verdict
			}
		}
		return v.decide(v.knox.finder, record, err, user)
	case no == nil:
		record, err := v.findImported(ctx, knox)
		return v.decide(v.own, record, err, user)
	case (v.knox != nil || len(text) > token.KnoxLength && len(text) <= token.KnoxLength+token.MaxKnoxPrefix) && !strings.HasPrefix(text, token.Prefix): // it may have been imported
		err = no
	}
	return Verdict{Reason: Malformed, Detail: err}
}

// errNotActive is who disables: not tokend.
var errNotActive = errors.New("the site that [knox] url leads to has no active user of the owner's name")

// decide is the rule itself: a record or why there is none, a name, and one reading of the clock.
func (v *Verifier) decide(from *finder, record token.Record, err error, user string) Verdict {
	switch {
	case errors.Is(err, token.ErrNotFound):
		return Verdict{Reason: Unknown}
	case err != nil:
		return Verdict{Reason: Unavailable, Detail: err}
	}
	verdict := Verdict{Token: record.ID, Reason: OK}
	settings := v.settings.Load()
	now, limit := from.now(), settings.MaxExpiry
	if from != v.own { // when one was made is not read
		limit = token.Forever
	}
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
		if from != v.own {
			verdict.Detail = errNotActive
		}
	case record.Owner == "" || record.Owner != settings.Names.Owner(user): // a site's column may have no name in it
		verdict.Reason = WrongUser
		verdict.Detail = fmt.Errorf("the token is %s's", record.Owner)
		if owner := settings.Names.Owner(user); owner != user {
			verdict.Detail = fmt.Errorf("%w, and by [names] it would have to be %s's", verdict.Detail, token.RedactName(owner))
		}
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
