package verify

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/singleflight"

	"tokend/cache"
	"tokend/tokend/token"
)

// finder finds the records of one source: in the cache, or by asking.
type finder struct {
	source  Source
	place   string // what the keys of its records begin with in the cache
	records Cache
	unknown *cache.Memory
	flights singleflight.Group
	breaker breaker
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time
	heard   func() time.Time
	since   func() time.Time
	proved  func(time.Time) bool
	ages    func() ages
}

// ages are how old a record may be.
type ages struct {
	fresh time.Duration // to be believed without asking the source
	most  time.Duration // to be believed while that cannot say
}

func (f *finder) key(digest token.Digest) string { return f.place + string(digest[:]) }

// find returns the digest's record: from the cache while it is young, else from
// the source, and while that cannot say from the cache for a while longer.
func (f *finder) find(ctx context.Context, digest token.Digest) (token.Record, error) {
	return f.findBehind(ctx, f.askCache(ctx, digest))
}

// cacheAnswer is what the cache has said of a digest.
type cacheAnswer struct {
	digest  token.Digest
	key     string
	kept    sighting
	outcome outcome
	there   cache.Entry
	doubted bool          // of changes by other daemons it may know nothing
	age     time.Duration // of what is kept
}

// askCache asks both caches. What they know and is too old, or doubted, is old.
func (f *finder) askCache(ctx context.Context, digest token.Digest) cacheAnswer {
	a := cacheAnswer{digest: digest, key: f.key(digest)}
	heard := f.heard() // before: what is heard of later is not in the cache yet
	a.kept, a.outcome, a.there = f.cached(ctx, digest, a.key)
	a.doubted, a.age = !heard.After(a.there.Since), f.now().Sub(a.kept.Read)
	if a.outcome == hit && (a.doubted || a.age >= f.ages().fresh || a.age < -clockLeap || a.kept.Read.Before(f.since())) {
		a.outcome = old
	}
	f.metrics.cacheAsked(a.outcome)
	return a
}

// findBehind finds the record once the cache has been asked.
func (f *finder) findBehind(ctx context.Context, a cacheAnswer) (token.Record, error) {
	switch a.outcome {
	case hit:
		return a.kept.Record, nil
	case hitUnknown:
		return token.Record{}, token.ErrNotFound
	}
	if a.doubted || a.outcome == buried || a.outcome == failed || a.outcome == tampered {
		// A look-up that is under way may have begun before rights were taken away: by another
		// daemon, so that this one has not heard of it, or while the cache could not say.
		f.flights.Forget(a.key + string(a.there.Seen))
	}
	record, err := f.lookup(ctx, a.digest, a.key, a.there.Seen, a.outcome != buried)
	switch {
	case err == nil:
		return record, nil
	case errors.Is(err, token.ErrNotFound):
		if a.outcome == old && !errors.Is(err, errForNow) { // or it would be believed again when the store goes away
			f.bury(ctx, a.key)
		}
		return token.Record{}, err
	}
	for range retries { // it may fail for a moment only
		if a.outcome != failed || !pause(ctx) {
			break
		}
		if a.kept, a.outcome, _ = f.cached(ctx, a.digest, a.key); a.outcome == hit {
			a.outcome, a.age = old, f.now().Sub(a.kept.Read)
		}
	}
	// Where the source's tables are not what they were, it does answer.
	if a.outcome == old && a.age >= 0 && a.age < f.ages().most && !errors.Is(err, token.ErrDrift) {
		f.metrics.believedStale()
		f.log.DebugContext(ctx, "store cannot say, an older record is believed", "age", a.age, "err", err)
		return a.kept.Record, nil
	}
	return token.Record{}, err
}

const (
	// retries is how often a cache that failed is asked again when the store cannot say
	// either, and between the tries is a short time.
	retries = 4
	between = 100 * time.Millisecond
)

// pause waits before the cache is asked again, if there is time for that.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(between):
		return true
	}
}

// cached asks both caches, and returns what is there, as it is and read. Whatever goes wrong
// there is a miss.
func (f *finder) cached(ctx context.Context, digest token.Digest, key string) (s sighting, o outcome, e cache.Entry) {
	if e, _ := f.unknown.Get(ctx, key); e.Value != nil && string(e.Value) == f.epoch() {
		return s, hitUnknown, e
	}
	e, err := f.records.Get(ctx, key)
	switch {
	case errors.Is(err, cache.ErrTampered):
		f.log.WarnContext(ctx, "cached record is not believed", "err", err)
		return s, tampered, e
	case err != nil:
		f.log.DebugContext(ctx, "cache cannot say", "err", err)
		return s, failed, e
	case e.Buried:
		return s, buried, e
	case e.Value == nil:
		return s, miss, e
	}
	s, err = decode(e.Value)
	if errors.Is(err, errEncoding) { // the daemons are being upgraded
		return sighting{}, miss, e
	}
	if err == nil {
		err = mustBe(s.Record, digest)
	}
	if err != nil {
		f.log.WarnContext(ctx, "cached record cannot be read", "err", err)
		return sighting{}, tampered, e
	}
	return s, hit, e
}

// lookup asks the store, once for all who ask for the same digest at the same
// time and have seen the same in the cache, and fills that. It goes on when the
// one who asked first gives up, for the sake of the others. Nobody waits for a
// store that hangs.
func (f *finder) lookup(ctx context.Context, digest token.Digest, key string, seen []byte, fill bool) (token.Record, error) {
	if err := f.breaker.wait(ctx, func() {
		ctx, cancel := ofItsOwn(ctx)
		defer cancel()
		_, _ = f.ask(ctx, digest)
	}); err != nil {
		return token.Record{}, err
	}
	name := key + string(seen)
	flight := f.flights.DoChan(name, func() (any, error) {
		ctx, cancel := ofItsOwn(ctx)
		defer cancel()
		// A store that ignores the deadline may keep this one past a tombstone's life.
		defer context.AfterFunc(ctx, func() { f.flights.Forget(name) })()
		begun, epoch := time.Now(), f.epoch()
		s := sighting{Read: f.now()}
		var err error
		if s.Record, err = f.ask(ctx, digest); err == nil {
			err = mustBe(s.Record, digest)
		}
		switch proved := f.proved(begun); {
		case errors.Is(err, token.ErrNotFound) && !proved:
			err = fmt.Errorf("%w, %w", err, errForNow)
		case errors.Is(err, token.ErrNotFound):
			_ = f.unknown.Fill(ctx, key, nil, []byte(epoch), unknownLife) // a memory cache never fails
		case err == nil && proved && fill && ctx.Err() == nil: // later, a tombstone may have come and gone
			f.fill(ctx, key, seen, s)
		}
		return s.Record, err
	})
	select {
	case result := <-flight:
		if result.Err != nil {
			return token.Record{}, result.Err
		}
		return result.Val.(token.Record), nil
	case <-ctx.Done():
		return token.Record{}, fmt.Errorf("wait for the store: %w", ctx.Err())
	}
}

// epoch names the time since which the store is the one that it is now: of what was unknown
// before, it is asked again.
func (f *finder) epoch() string { return f.since().String() }

// errForNow is that an answer is not to be kept.
var errForNow = errors.New("as far as is known now")

// ofItsOwn is the context of a look-up, which whoever wanted it doesn't end.
func ofItsOwn(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), lookupTimeout)
}

// ask asks the store, and takes notice of whether it answers.
func (f *finder) ask(ctx context.Context, digest token.Digest) (token.Record, error) {
	begun := time.Now()
	record, err := f.source.Lookup(ctx, digest)
	if errors.Is(err, token.ErrNotFound) || errors.Is(err, token.ErrDrift) { // which are answers
		f.breaker.note(ctx, begun, nil)
	} else {
		f.breaker.note(ctx, begun, err)
	}
	return record, err
}

// mustBe refuses a record that is not the digest's.
func mustBe(r token.Record, digest token.Digest) error {
	if subtle.ConstantTimeCompare(r.Digest[:], digest[:]) != 1 {
		return errors.New("the record that was found is another token's")
	}
	return nil
}

func (f *finder) fill(ctx context.Context, key string, seen []byte, s sighting) {
	value, err := s.encode()
	if err == nil {
		err = f.records.Fill(ctx, key, seen, value, f.recordLife())
	}
	if err != nil {
		f.log.DebugContext(ctx, "cache was not filled", "err", err)
	}
}

func (f *finder) bury(ctx context.Context, key string) {
	if err := f.records.Bury(ctx, f.tombstoneLife(), key); err != nil {
		f.log.WarnContext(ctx, "record of a token that is gone stays in the cache", "err", err)
	}
}

// recordLife is how long a record is of any use.
func (f *finder) recordLife() time.Duration { return f.ages().most }

// tombstoneLife outlasts every record, and every look-up that was under way.
func (f *finder) tombstoneLife() time.Duration { return f.recordLife() + 2*lookupTimeout }

// forget makes sure that no check which begins after it has returned believes
// anything about these tokens that was read before. It is called when a change
// that takes rights away has been made in the store.
//
// A tombstone takes the record's place, and who finds that joins no look-up that was
// under way.
func (f *finder) forget(ctx context.Context, digests ...token.Digest) error {
	keys := make([]string, len(digests))
	for i, digest := range digests {
		keys[i] = f.key(digest)
	}
	if err := f.records.Bury(ctx, f.tombstoneLife(), keys...); err != nil {
		return fmt.Errorf("bury cached records: %w", err)
	}
	return nil
}

var (
	_ Cache = (*cache.Memory)(nil)
	_ Cache = (*cache.Redis)(nil)
)
