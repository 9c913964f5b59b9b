package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"tokend/tokend/token"
)

var contexts = []claim{
	{"CancelledContextEndsEveryMethodAtOnce", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		for name, call := range calls(s, r) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			endsWith(t, name, func() error { return call(ctx) }, context.Canceled)
		}
		same(t, "record", lookup(t, s, r.Digest), r)
		same(t, "users", users(t, s), []token.User{{Name: "alice", Tokens: 1}})
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"PassedDeadlineEndsEveryMethodAtOnce", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		for name, call := range calls(s, r) {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now())
			endsWith(t, name, func() error { return call(ctx) }, context.DeadlineExceeded)
			cancel()
		}
		same(t, "record", lookup(t, s, r.Digest), r)
		same(t, "actions", actions(t, s, ""), []token.Action{token.TokenCreated})
	}},

	{"CancellingMidwayLosesNothingAcknowledged", func(t *testing.T, s Store) {
		var lock sync.Mutex
		var acknowledged []token.Record
		var group sync.WaitGroup
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			for range 3 {
				group.Go(func() {
					for ctx.Err() == nil {
						r := newRecord("alice")
						err := s.Mint(ctx, r, token.Quota{}, told(token.TokenCreated))
						switch {
						case err == nil:
							lock.Lock()
							acknowledged = append(acknowledged, r)
							lock.Unlock()
						case !errors.Is(err, context.Canceled):
							t.Errorf("mint: %v", err)
						}
					}
				})
			}
			time.AfterFunc(20*time.Millisecond, cancel)
			group.Wait()
		}
		for _, r := range acknowledged {
			same(t, "acknowledged", lookup(t, s, r.Digest), r)
		}
		same(t, "one event for each token", len(events(t, s, "")), len(records(t, s, token.Page{Limit: all})))
	}},
}

// calls are the methods, each as a call that would succeed.
func calls(s Store, r token.Record) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"lookup": func(ctx context.Context) error { _, err := s.Lookup(ctx, r.Digest); return err },
		"mint": func(ctx context.Context) error {
			return s.Mint(ctx, newRecord("bob"), token.Quota{}, told(token.TokenCreated))
		},
		"adopt": func(ctx context.Context) error {
			_, err := s.Adopt(ctx, []token.Record{newRecord("bob")}, told(token.TokenImported))
			return err
		},
		"known": func(ctx context.Context) error { _, err := s.Known(ctx, []token.Digest{r.Digest}); return err },
		"revoke": func(ctx context.Context) error {
			_, err := s.Revoke(ctx, token.Selection{ID: r.ID}, now, told(token.TokenRevoked))
			return err
		},
		"set disabled": func(ctx context.Context) error {
			_, _, err := s.SetDisabled(ctx, r.Owner, true, now, told(token.UserDisabled))
			return err
		},
		"records": func(ctx context.Context) error { _, err := s.Records(ctx, token.Page{Limit: all}); return err },
		"users": func(ctx context.Context) error {
			_, err := s.Users(ctx, token.UserPage{Limit: all}, now, token.Forever)
			return err
		},
		"events": func(ctx context.Context) error { _, err := s.Events(ctx, token.EventPage{Limit: all}); return err },
		"count":  func(ctx context.Context) error { _, err := s.Count(ctx, now, token.Forever); return err },
		"ping":   s.Ping,
	}
}

func endsWith(t *testing.T, name string, call func() error, want error) {
	t.Helper()
	began := time.Now()
	fails(t, name, call(), want)
	if took := time.Since(began); took > time.Second {
		t.Errorf("%s returned after %v", name, took)
	}
}
