package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// recordOf is a new token of that user.
func recordOf(user string) token.Record {
	r := newRecord()
	r.Owner = user
	return r
}

// TestAnImportEndsNoChange, nor a change an import: none waits for what the other one waits for.
func TestAnImportEndsNoChange(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t, "current"))
	someUser := func() string { return fmt.Sprintf("user%d", rand.N(5)) }
	for i := range 5 {
		check(s.Mint(t.Context(), recordOf(fmt.Sprintf("user%d", i)), token.Quota{}, token.Event{At: created}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	var all sync.WaitGroup
	again := func(what string, f func() error) {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil && ctx.Err() == nil && !errors.Is(err, token.ErrUserDisabled) {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	for range 2 {
		again("an import", func() error {
			some := make([]token.Record, 100)
			for i := range some {
				some[i] = recordOf(someUser())
				some[i].Scheme = token.Knox5
			}
			_, err := s.Adopt(ctx, some, token.Event{At: created, Action: token.TokenImported})
			return err
		})
		again("a revoke", func() error {
			_, err := s.Revoke(ctx, token.Selection{Owner: someUser()}, created, token.Event{At: created, Action: token.TokenRevoked})
			return err
		})
		again("disabling", func() error {
			user := someUser()
			_, _, err := s.SetDisabled(ctx, user, true, created, token.Event{At: created, Action: token.UserDisabled})
			if err == nil {
				_, _, err = s.SetDisabled(ctx, user, false, created, token.Event{At: created, Action: token.UserEnabled})
			}
			return err
		})
		again("a new token", func() error {
			return s.Mint(ctx, recordOf(someUser()), token.Quota{}, token.Event{At: created, Action: token.TokenCreated})
		})
	}
	all.Wait()
}

// TestUsersDisabledAtOnceAreAllHeardOf, as revoked tokens are.
func TestUsersDisabledAtOnceAreAllHeardOf(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	stores := []*postgres.Store{open(t, url), open(t, url), open(t, url)}
	var all []token.Digest
	users := make(chan string, 400)
	for i := range cap(users) {
		r := recordOf(fmt.Sprintf("user%d", i))
		check(stores[0].Mint(t.Context(), r, token.Quota{}, token.Event{At: created, Action: token.TokenCreated}))
		all = append(all, r.Digest)
		users <- r.Owner
	}
	close(users)
	heard := told(t, open(t, url))
	var disabling sync.WaitGroup
	for i := range 24 {
		disabling.Go(func() {
			for user := range users {
				_, _, err := stores[i%len(stores)].SetDisabled(t.Context(), user, true, created, token.Event{At: created, Action: token.UserDisabled})
				check(err)
			}
		})
	}
	wantTold(t, "at once", heard, all...)
	disabling.Wait()
}
