package storetest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// model is a store in its simplest form: what the others are compared with. It
// passes the suite itself.
type model struct {
	busy     sync.Mutex
	tokens   []token.Record
	disabled map[string]time.Time // every user there is
	events   []token.Event        // oldest first
	uses     map[string]token.Use // by the token's ID
	webModel
}

func newModel() *model { return &model{disabled: map[string]time.Time{}, uses: map[string]token.Use{}} }

// enter locks the model until the end of the caller, unless ctx is done or one
// of the errors is not nil.
func (m *model) enter(ctx context.Context, errs ...error) (leave func(), err error) {
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return func() {}, err
	}
	m.busy.Lock()
	return m.busy.Unlock, nil
}

// tell writes an event about the user and the token. A store may leave out
// numbers, and so the model does.
func (m *model) tell(event token.Event, user, id string) {
	event.Number = 10 * int64(len(m.events)+1)
	event.At = token.Time(event.At)
	m.events = append(m.events, of(event, user, id))
}

// read returns a record as it is read now.
func (m *model) read(r token.Record) token.Record {
	r.OwnerDisabled = !m.disabled[r.Owner].IsZero()
	return r
}

func (m *model) newestFirst(owner string) []token.Record {
	var found []token.Record
	for _, r := range m.tokens {
		if owner == "" || r.Owner == owner {
			found = append(found, m.read(r))
		}
	}
	slices.SortFunc(found, func(a, b token.Record) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	return found
}

func (m *model) active(owner string, now time.Time, limit token.Life) (count int) {
	for _, r := range m.tokens {
		if r.Owner == owner && r.StateAt(now, limit) == token.Active {
			count++
		}
	}
	return count
}

func (m *model) Lookup(ctx context.Context, digest token.Digest) (token.Record, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return token.Record{}, err
	}
	for _, r := range m.tokens {
		if r.Digest == digest {
			return m.read(r), nil
		}
	}
	return token.Record{}, token.ErrNotFound
}

func (m *model) Mint(ctx context.Context, record token.Record, quota token.Quota, event token.Event) error {
	leave, err := m.enter(ctx, store.CheckRecord(record))
	defer leave()
	if err != nil {
		return err
	}
	if err := m.mintable(record, quota); err != nil {
		return err
	}
	m.keep(record, event)
	return nil
}

// mintable says why the record cannot be kept.
func (m *model) mintable(record token.Record, quota token.Quota) error {
	if !m.disabled[record.Owner].IsZero() {
		return token.ErrUserDisabled
	}
	if quota.Tokens > 0 && m.active(record.Owner, record.Created, quota.MaxLife) >= quota.Tokens {
		return token.ErrTooMany
	}
	for _, r := range m.tokens {
		if r.ID == record.ID || r.Digest == record.Digest {
			return store.ErrExists
		}
	}
	return nil
}

func (m *model) keep(record token.Record, event token.Event) {
	m.disabled[record.Owner] = time.Time{}
	record.Created = token.Time(record.Created)
	record.Expires, record.Revoked = token.Time(record.Expires), token.Time(record.Revoked)
	m.tokens = append(m.tokens, record)
	m.tell(event, record.Owner, record.ID)
}

func (m *model) Adopt(ctx context.Context, records []token.Record, event token.Event) (kept []string, err error) {
	var wrong []error
	for _, r := range records {
		wrong = append(wrong, store.CheckRecord(r))
	}
	leave, err := m.enter(ctx, wrong...)
	defer leave()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if slices.ContainsFunc(m.tokens, func(k token.Record) bool { return k.Digest == r.Digest }) {
			continue
		}
		if slices.ContainsFunc(m.tokens, func(k token.Record) bool { return k.ID == r.ID }) {
			return nil, store.ErrExists // of several, the suite adopts only good ones
		}
		if _, known := m.disabled[r.Owner]; !known {
			m.disabled[r.Owner] = time.Time{}
		}
		r.Created, r.Expires, r.Revoked = token.Time(r.Created), token.Time(r.Expires), token.Time(r.Revoked)
		m.tokens = append(m.tokens, r)
		m.tell(event, r.Owner, r.ID)
		kept = append(kept, r.ID)
	}
	return kept, nil
}

func (m *model) Known(ctx context.Context, digests []token.Digest) (n int, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	for _, r := range m.tokens {
		if slices.Contains(digests, r.Digest) {
			n++
		}
	}
	return n, err
}

func (m *model) Revoke(ctx context.Context, selection token.Selection, at time.Time, event token.Event) ([]token.Record, error) {
	leave, err := m.enter(ctx, store.CheckSelection(selection), zero(at))
	defer leave()
	if err != nil {
		return nil, err
	}
	var found []token.Record
	older := m.older(selection)
	for _, r := range m.newestFirst("") {
		if before := !selection.Before.IsZero(); before && !older[r.ID] || !before && r.ID != selection.ID && r.Owner != selection.Owner && r.Digest != selection.Digest {
			continue
		}
		if r.Revoked.IsZero() {
			r.Revoked = token.Time(at)
			i := slices.IndexFunc(m.tokens, func(kept token.Record) bool { return kept.ID == r.ID })
			m.tokens[i].Revoked = r.Revoked
			m.tell(event, r.Owner, r.ID)
		}
		found = append(found, r)
	}
	if _, known := m.disabled[selection.Owner]; found == nil && !known && selection.Before.IsZero() {
		return nil, token.ErrNotFound
	}
	return found, nil
}

// older is what a selection by time is of.
func (m *model) older(selection token.Selection) map[string]bool {
	ids := map[string]bool{}
	for _, r := range slices.Backward(m.newestFirst(selection.Owner)) {
		if r.Revoked.IsZero() && r.Created.Before(token.Time(selection.Before)) && len(ids) < store.RevokedAtOnce {
			ids[r.ID] = true
		}
	}
	return ids
}

func (m *model) SetDisabled(ctx context.Context, user string, disabled bool, at time.Time, event token.Event) ([]token.Digest, bool, error) {
	leave, err := m.enter(ctx, zero(at))
	defer leave()
	if err != nil {
		return nil, false, err
	}
	since, known := m.disabled[user]
	if !known {
		return nil, false, token.ErrNotFound
	}
	changed := disabled == since.IsZero()
	if changed {
		m.disabled[user] = time.Time{}
		if disabled {
			m.disabled[user] = token.Time(at)
		}
		m.tell(event, user, "")
	}
	var digests []token.Digest
	for _, r := range m.newestFirst(user) {
		if r.Revoked.IsZero() {
			digests = append(digests, r.Digest)
		}
	}
	return digests, changed, nil
}

func (m *model) Records(ctx context.Context, page token.Page) ([]token.Record, error) {
	leave, err := m.enter(ctx, store.CheckLimit(page.Limit))
	defer leave()
	if err != nil {
		return nil, err
	}
	found := m.newestFirst(page.Owner)
	if page.After != "" {
		i := slices.IndexFunc(found, func(r token.Record) bool { return r.ID == page.After })
		if i < 0 {
			return nil, token.ErrNotFound
		}
		found = found[i+1:]
	}
	var listed []token.Record
	for _, r := range found {
		if page.ActiveAt.IsZero() || r.StateAt(page.ActiveAt, page.MaxLife) == token.Active {
			listed = append(listed, m.listed(r))
		}
	}
	return listed[:min(page.Limit, len(listed))], nil
}

func (m *model) Users(ctx context.Context, page token.UserPage, now time.Time, limit token.Life) ([]token.User, error) {
	leave, err := m.enter(ctx, store.CheckLimit(page.Limit))
	defer leave()
	if err != nil {
		return nil, err
	}
	var found []token.User
	for name, since := range m.disabled {
		if name > page.After && strings.Contains(strings.ToLower(name), strings.ToLower(page.Find)) {
			found = append(found, token.User{Name: name, Disabled: since, Tokens: m.active(name, now, limit)})
		}
	}
	slices.SortFunc(found, func(a, b token.User) int { return cmp.Compare(a.Name, b.Name) })
	return found[:min(page.Limit, len(found))], nil
}

func (m *model) Events(ctx context.Context, page token.EventPage) ([]token.Event, error) {
	leave, err := m.enter(ctx, store.CheckEventPage(page))
	defer leave()
	if err != nil {
		return nil, err
	}
	var found []token.Event
	for _, e := range slices.Backward(m.events) {
		is := (page.User == "" || e.User == page.User) && (page.Token == "" || e.Token == page.Token) && (page.Action == "" || e.Action == page.Action) &&
			(page.Since.IsZero() || !e.At.Before(token.Time(page.Since))) && (page.Until.IsZero() || e.At.Before(token.Time(page.Until)))
		if is && (page.Before == 0 || e.Number < page.Before) && len(found) < page.Limit {
			found = append(found, e)
		}
	}
	return found, nil
}

func (m *model) Count(ctx context.Context, now time.Time, limit token.Life) (map[token.State]int, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return nil, err
	}
	states := map[token.State]int{token.Active: 0, token.Expired: 0, token.Revoked: 0}
	for _, r := range m.tokens {
		states[r.StateAt(now, limit)]++
	}
	return states, nil
}

func (m *model) Ping(ctx context.Context) error { return ctx.Err() }

// zero is an error if t is the zero time.
func zero(t time.Time) error {
	if t.IsZero() {
		return errors.New("the zero time means never")
	}
	return nil
}

// kind says which of the errors that callers branch on it is.
func kind(err error) string {
	if err == nil {
		return "none"
	}
	for _, known := range []error{token.ErrNotFound, token.ErrUserDisabled, token.ErrTooMany, token.ErrChanged, store.ErrExists} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "another"
}
