package manage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tokend/tokend/token"
)

// maxPage is how many records or events one call returns at most.
const maxPage = 1000

// View is a token as it is shown: what is kept of it, and what it is good for
// now under the site's limits.
type View struct {
	token.Record
	State   token.State
	Expires time.Time // under the site's limit; zero: never
}

// List returns a page of tokens, newest first. A limit of 0, or past 1000, is
// 1000.
func (m *Manager) List(ctx context.Context, p token.Page) ([]View, error) {
	p.Limit = pageLimit(p.Limit)
	records, err := m.store.Records(ctx, p)
	if err != nil {
		return nil, notFound(fmt.Errorf("list tokens: %w", err), fmt.Sprintf("the list has no token with the ID %.80q, after which to go on", token.RedactName(p.After)))
	}
	views := make([]View, 0, len(records))
	for _, r := range records {
		views = append(views, m.View(r))
	}
	return views, nil
}

// ListActive returns a page of what is active now, newest first. Limits are List's.
func (m *Manager) ListActive(ctx context.Context, p token.Page) ([]View, error) {
	p.ActiveAt, p.MaxLife = m.now(), m.limits.Load().MaxExpiry
	return m.List(ctx, p)
}

// Record returns what is kept of the token with that public ID. token.ErrNotFound: no such ID.
func (m *Manager) Record(ctx context.Context, id string) (token.Record, error) {
	if id == "" {
		return token.Record{}, invalid(errors.New("the token's ID is empty"))
	}
	record, err := m.store.Record(ctx, id)
	if err != nil {
		return token.Record{}, notFound(err, noSuchToken(id))
	}
	return record, nil
}

// View judges a record as of now.
func (m *Manager) View(r token.Record) View {
	limit := m.limits.Load().MaxExpiry
	return View{Record: r, State: r.StateAt(m.now(), limit), Expires: r.ExpiresUnder(limit)}
}

// Users returns a page of those who ever had a token or signed in, by name. A limit of 0, or past 1000, is
// 1000.
func (m *Manager) Users(ctx context.Context, p token.UserPage) ([]token.User, error) {
	p.Limit = pageLimit(p.Limit)
	users, err := m.store.Users(ctx, p, m.now(), m.limits.Load().MaxExpiry)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// Events returns a page of the audit trail, newest first. A limit of 0, or past
// 1000, is 1000.
func (m *Manager) Events(ctx context.Context, p token.EventPage) ([]token.Event, error) {
	p.Limit = pageLimit(p.Limit)
	events, err := m.store.Events(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("read the audit trail: %w", err)
	}
	return events, nil
}

func pageLimit(n int) int {
	if n <= 0 || n > maxPage {
		return maxPage
	}
	return n
}
