package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"tokend/tokend/token"
)

// Knox finds records of tokens that django-rest-knox has made. Where its tables are not what they
// should be, it says token.ErrDrift.
type Knox interface {
	Source
	// LookupAll finds several at once; what is not there is not in the map.
	LookupAll(context.Context, ...token.Digest) (map[token.Digest]token.Record, error)
	// MayLogIn reports whether the site has such a user, who may.
	MayLogIn(ctx context.Context, name string) (bool, error)
	// Scheme is how their digests are made.
	Scheme() (token.Scheme, error)
	// Now is the time by which they expire.
	Now() time.Time
}

// reader finds the records of Knox, which tells nobody when a token is deleted: what is in use is read
// again before it is too old to be believed.
type reader struct {
	*finder
	knox  Knox
	mu    sync.Mutex
	inUse map[token.Digest]time.Time // when each was asked for last
	users map[string]userSeen        // owners of tokens from before the site's own, by name
	asked singleflight.Group         // for one of them, once for all who want to know at the same time
	owner breaker                    // of these questions, which may hang where those for tokens don't
}

// looksAtOnce is how many are looked for in the cache at the same time.
const looksAtOnce = 32

var (
	// mostInUse is how many are read again; of more, each login past [knox] refresh asks.
	mostInUse = 20_000
	// readAtOnce is for how many one statement asks.
	readAtOnce = 1000
)

func (v *Verifier) newReader(cfg Config) (*reader, error) {
	cfg.Logger = cfg.Logger.With("source", "knox")
	cfg.Source, cfg.Now, cfg.Heard, cfg.Since, cfg.Proved = cfg.Knox, cfg.Knox.Now, nil, nil, nil
	f, err := v.newFinder(cfg)
	if err != nil {
		return nil, err
	}
	f.place = "knox:" + cfg.KnoxSite + ":"
	f.ages = func() ages {
		s := v.settings.Load()
		return ages{s.Refresh, max(s.TTL+s.Stale, s.Refresh)}
	}
	return &reader{finder: f, knox: cfg.Knox, inUse: map[token.Digest]time.Time{}, users: map[string]userSeen{}, owner: breaker{log: f.log}}, nil
}

// findOne finds the record of a token by the scheme of its site. Where nobody can say which, as the site has not
// answered since the start, it may be in the cache by the one or the other.
func (r *reader) findOne(ctx context.Context, secret token.Knox) (token.Record, error) {
	scheme, err := r.knox.Scheme()
	if err == nil {
		record, err := r.findAs(ctx, secret, scheme)
		if now, no := r.knox.Scheme(); errors.Is(err, token.ErrNotFound) && (no != nil || now != scheme) {
			err = fmt.Errorf("%w: %w", token.ErrDrift, cmp.Or(no, errOtherScheme)) // it was looked for under another's digest
		}
		return record, err
	}
	if !errors.Is(err, token.ErrDrift) {
		for _, scheme := range []token.Scheme{token.Knox5, token.Knox4} {
			if record, no := r.findAs(ctx, secret, scheme); no == nil {
				return record, nil
			}
		}
	}
	return token.Record{}, err
}

var errOtherScheme = errors.New("the tables have just become another Knox's")

// findAs finds it by one scheme.
func (r *reader) findAs(ctx context.Context, secret token.Knox, scheme token.Scheme) (token.Record, error) {
	digest, may := secret.Digest(scheme)
	if !may {
		return token.Record{}, token.ErrNotFound
	}
	record, err := r.find(ctx, digest)
	if err == nil {
		r.use(digest)
	}
	return record, err
}

func (r *reader) use(digest token.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.inUse[digest]; known || len(r.inUse) < mostInUse {
		r.inUse[digest] = time.Now()
	}
}

// used returns what was asked for lately.
func (r *reader) used() (digests []token.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	most := r.recordLife()
	for digest, last := range r.inUse {
		if time.Since(last) > most {
			delete(r.inUse, digest)
			continue
		}
		digests = append(digests, digest)
	}
	return digests
}

// Run reads the records of Knox that are in use again, until ctx ends.
func (v *Verifier) Run(ctx context.Context) {
	for last := time.Now(); v.knox != nil; {
		// Three times before one is too old: an answer may be lost, or late.
		every := v.settings.Load().Refresh / 4
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(time.Until(last.Add(every)), time.Second)): // it may become shorter meanwhile
		}
		if time.Since(last) >= every {
			last = time.Now()
			v.knox.refresh(ctx)
		}
	}
}

// cachedAs is how a record was found in the cache.
type cachedAs struct {
	seen []byte
	read time.Time
}

// refresh reads again what would soon be too old.
func (r *reader) refresh(ctx context.Context) {
	var due []token.Digest
	seen := map[token.Digest]cachedAs{}
	var mu sync.Mutex
	var looks errgroup.Group
	looks.SetLimit(looksAtOnce)
	for _, digest := range r.used() {
		looks.Go(func() error {
			kept, outcome, there := r.cached(ctx, digest, r.key(digest))
			// One that will be read only later is from before the clock was put back: it would be young again.
			if age := r.now().Sub(kept.Read); outcome == hit && (age < 0 || age >= r.ages().fresh/4) {
				mu.Lock()
				defer mu.Unlock()
				due = append(due, digest)
				seen[digest] = cachedAs{there.Seen, kept.Read}
			}
			return nil
		})
	}
	_ = looks.Wait() // none fails
	for len(due) > 0 && ctx.Err() == nil {
		some := due[:min(len(due), readAtOnce)]
		due = due[len(some):]
		read := r.now()
		records, err := r.knox.LookupAll(ctx, some...)
		if err != nil {
			r.log.DebugContext(ctx, "records of Knox were not read again", "err", err)
			return // each login that needs one says so
		}
		for _, digest := range some {
			was := seen[digest]
			if was.seen == nil { // a cache that keeps what comes last
				if kept, outcome, _ := r.cached(ctx, digest, r.key(digest)); outcome == hit && !kept.Read.Equal(was.read) {
					continue // a login has asked since
				}
			}
			record, ok := records[digest]
			if !ok {
				r.bury(ctx, r.key(digest))
				continue
			}
			r.fill(ctx, r.key(digest), was.seen, sighting{record, read})
		}
	}
}

// findImported finds the record of a token of Knox that was imported into the source: as the cache has it, else by the scheme of
// the last one that was there first, so that it is mostly one look-up. What cannot be looked up by that one
// may be in the cache by the other.
func (v *Verifier) findImported(ctx context.Context, secret token.Knox) (token.Record, error) {
	schemes := []token.Scheme{token.Knox5, token.Knox4}
	if v.knox4.Load() {
		slices.Reverse(schemes)
	}
	asked := map[token.Scheme]cacheAnswer{}
	for _, scheme := range schemes {
		if digest, may := secret.Digest(scheme); may {
			a := v.own.askCache(ctx, digest)
			if a.outcome == hit && a.kept.Record.Scheme == scheme {
				v.knox4.Store(scheme == token.Knox4)
				return a.kept.Record, nil
			}
			asked[scheme] = a
		}
	}
	err := token.ErrNotFound
	for _, scheme := range schemes {
		a, may := asked[scheme]
		if !may {
			continue
		}
		record, no := v.own.findBehind(ctx, a)
		switch {
		case no == nil && record.Scheme == scheme:
			v.knox4.Store(scheme == token.Knox4)
			return record, nil
		case no != nil && !errors.Is(no, token.ErrNotFound):
			err = no // it may be there all the same
		}
	}
	return token.Record{}, err
}

// findAs finds it by one scheme.
func (v *Verifier) findAs(ctx context.Context, secret token.Knox, scheme token.Scheme) (token.Record, error) {
	digest, may := secret.Digest(scheme)
	if !may {
		return token.Record{}, token.ErrNotFound
	}
	record, err := v.own.find(ctx, digest)
	if err == nil && record.Scheme != scheme {
		err = token.ErrNotFound
	}
	return record, err
}

// findFromBefore finds the record of a token that was imported before its site went over to Knox 5, which
// cannot read it any more: of those, the source alone knows, and of their owners the site does, too. Why is Knox's
// error, and becomes the source's where that cannot say.
// may is what the site says of the owner.
func (v *Verifier) findFromBefore(ctx context.Context, secret token.Knox, why *error) (record token.Record, may, ok bool) {
	if scheme, err := v.knox.knox.Scheme(); err != nil || scheme != token.Knox5 {
		return record, false, false
	}
	record, err := v.findAs(ctx, secret, token.Knox4)
	answers := errors.Is(*why, token.ErrNotFound)
	if err == nil {
		may, err = v.knox.mayLogIn(ctx, record.Owner, answers)
	}
	if err != nil && answers {
		*why = err
	}
	return record, may, err == nil
}

// userSeen is what the site has said of a user.
type userSeen struct {
	may  bool
	read time.Time
}

// mayLogIn reports whether the site's user may. That is believed as long as a record is; and while the site has just
// not answered, it is not asked.
func (r *reader) mayLogIn(ctx context.Context, name string, answers bool) (bool, error) {
	r.mu.Lock()
	seen, known := r.users[name]
	r.mu.Unlock()
	ages, age := r.ages(), time.Since(seen.read)
	if known && age < ages.fresh {
		return seen.may, nil
	}
	err := errNotAsked
	if answers {
		err = r.owner.wait(ctx, func() {
			ctx, cancel := ofItsOwn(ctx)
			defer cancel()
			_, _ = r.askUser(ctx, name)
		})
		r.mu.Lock()
		seen, known = r.users[name] // which the wait may have asked for
		r.mu.Unlock()
		if age = time.Since(seen.read); known && age < ages.fresh {
			return seen.may, nil
		}
		if err == nil {
			var may bool
			if may, err = r.askOnce(ctx, name); err == nil {
				return may, nil
			}
		}
	}
	if known && age < ages.most && !errors.Is(err, token.ErrDrift) {
		return seen.may, nil
	}
	return false, err
}

// errNotAsked is why nobody knows it of a user.
var errNotAsked = errors.New("the database of Knox does not answer, and has not said lately whether the owner may log in")

// askOnce asks the site, once for all who want to know it of the same user. It goes on when the one who asked first
// gives up.
func (r *reader) askOnce(ctx context.Context, name string) (bool, error) {
	asked := r.asked.DoChan(name, func() (any, error) {
		ctx, cancel := ofItsOwn(ctx)
		defer cancel()
		return r.askUser(ctx, name)
	})
	select {
	case answer := <-asked:
		return answer.Val.(bool), answer.Err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// askUser asks the site, and takes notice of whether it answers.
func (r *reader) askUser(ctx context.Context, name string) (may bool, err error) {
	begun := time.Now()
	may, err = r.knox.MayLogIn(ctx, name)
	if errors.Is(err, token.ErrDrift) { // which is an answer
		r.owner.note(ctx, begun, nil)
	} else {
		r.owner.note(ctx, begun, err)
	}
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.users) >= mostInUse {
		clear(r.users)
	}
	r.users[name] = userSeen{may, begun}
	return may, nil
}
