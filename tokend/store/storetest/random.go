package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tokend/tokend/token"
)

// checkModel does the same random things to a store and to the model, and
// compares every answer, errors included.
func checkModel(t *testing.T, open func(t *testing.T) Store) {
	rapid.Check(t, func(r *rapid.T) {
		p := pair{real: open(t), model: newModel()}
		r.Repeat(map[string]func(*rapid.T){
			"lookup":  p.lookup,
			"mint":    p.mint,
			"adopt":   p.adopt,
			"revoke":  p.revoke,
			"disable": p.setDisabled,
			"list":    p.list,
		})
		p.list(r)
	})
}

// The choices are few, so that each is met again and again.
var (
	someUser   = rapid.SampledFrom([]string{"alice", "Alice", "bob"})
	someID     = rapid.SampledFrom([]string{"t1", "T1", "t2", "t3", "t4", "t5", "t6", "t7"})
	someAction = rapid.SampledFrom([]token.Action{token.TokenCreated, token.TokenRevoked, token.UserDisabled})
	someDigest = rapid.Custom(func(t *rapid.T) token.Digest {
		return token.Digest{rapid.ByteRange(1, 9).Draw(t, "digest")}
	})
	someTime = rapid.Custom(func(t *rapid.T) time.Time {
		seconds, micros := rapid.IntRange(0, 3).Draw(t, "seconds"), rapid.IntRange(-1, 1).Draw(t, "microseconds")
		return now.Add(time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond)
	})
	someEvent = rapid.Custom(func(t *rapid.T) token.Event {
		return token.Event{At: someTime.Draw(t, "at"), Actor: someUser.Draw(t, "actor"), Action: someAction.Draw(t, "action")}
	})
	someRecord = rapid.Custom(func(t *rapid.T) token.Record {
		r := token.Record{
			ID:      someID.Draw(t, "ID"),
			Digest:  someDigest.Draw(t, "digest"),
			Owner:   someUser.Draw(t, "owner"),
			Label:   rapid.StringOfN(rapid.RuneFrom([]rune("aÄ€🔑'%")), 0, 4, -1).Draw(t, "label"),
			Created: someTime.Draw(t, "created"),
		}
		if rapid.Bool().Draw(t, "expires") {
			r.Expires = someTime.Draw(t, "expiry")
		}
		return r
	})
	someSelection = rapid.Custom(func(t *rapid.T) token.Selection {
		switch rapid.IntRange(0, 2).Draw(t, "selected by") {
		case 0:
			return token.Selection{ID: someID.Draw(t, "ID")}
		case 1:
			return token.Selection{Digest: someDigest.Draw(t, "digest")}
		}
		return token.Selection{Owner: someUser.Draw(t, "owner")}
	})
)

var someLife = rapid.Map(rapid.IntRange(0, 3), func(n int) token.Life { return token.Life(n) })

type pair struct {
	real  Store
	model *model
}

func (p pair) lookup(t *rapid.T) {
	digest := someDigest.Draw(t, "digest")
	compare(t, p, func(ctx context.Context, s Store) (token.Record, error) { return s.Lookup(ctx, digest) })
}

func (p pair) mint(t *rapid.T) {
	record, event := someRecord.Draw(t, "record"), someEvent.Draw(t, "event")
	quota := token.Quota{Tokens: rapid.IntRange(0, 3).Draw(t, "quota"), MaxLife: someLife.Draw(t, "longest life")}
	compare(t, p, func(ctx context.Context, s Store) (any, error) { return nil, s.Mint(ctx, record, quota, event) })
}

func (p pair) adopt(t *rapid.T) {
	record, event := someRecord.Draw(t, "record"), someEvent.Draw(t, "event")
	record.Scheme = rapid.SampledFrom([]token.Scheme{token.Knox4, token.Knox5}).Draw(t, "scheme")
	compare(t, p, func(ctx context.Context, s Store) ([]string, error) {
		return s.Adopt(ctx, []token.Record{record}, event)
	})
}

func (p pair) revoke(t *rapid.T) {
	selection, at, event := someSelection.Draw(t, "selection"), someTime.Draw(t, "at"), someEvent.Draw(t, "event")
	compare(t, p, func(ctx context.Context, s Store) ([]token.Record, error) {
		return s.Revoke(ctx, selection, at, event)
	})
}

func (p pair) setDisabled(t *rapid.T) {
	user, disabled := someUser.Draw(t, "user"), rapid.Bool().Draw(t, "disabled")
	at, event := someTime.Draw(t, "at"), someEvent.Draw(t, "event")
	type result struct {
		Digests []token.Digest
		Changed bool
	}
	compare(t, p, func(ctx context.Context, s Store) (result, error) {
		digests, changed, err := s.SetDisabled(ctx, user, disabled, at, event)
		return result{sorted(digests...), changed}, err
	})
}

func (p pair) list(t *rapid.T) {
	owner := rapid.OneOf(rapid.Just(""), someUser).Draw(t, "owner")
	after := rapid.OneOf(rapid.Just(""), someID).Draw(t, "after")
	limit, skip := rapid.IntRange(1, 9).Draw(t, "limit"), rapid.IntRange(0, 9).Draw(t, "skip")
	at, life := someTime.Draw(t, "at"), someLife.Draw(t, "life")
	compare(t, p, func(ctx context.Context, s Store) ([]token.Record, error) {
		return s.Records(ctx, token.Page{Owner: owner, After: after, Limit: limit})
	})
	compare(t, p, func(ctx context.Context, s Store) ([]token.Event, error) {
		before, err := numberPast(ctx, s, skip)
		if err != nil {
			return nil, err
		}
		return s.Events(ctx, token.EventPage{User: owner, Before: before, Limit: limit})
	})
	digests := rapid.SliceOfDistinct(someDigest, rapid.ID[token.Digest]).Draw(t, "digests")
	compare(t, p, func(ctx context.Context, s Store) (int, error) { return s.Known(ctx, digests) })
	compare(t, p, func(ctx context.Context, s Store) ([]token.User, error) {
		return s.Users(ctx, token.UserPage{Limit: all}, at, life)
	})
	compare(t, p, func(ctx context.Context, s Store) (map[token.State]int, error) { return s.Count(ctx, at, life) })
}

// numberPast is the number that the store gave to the last of the so many newest
// events; 0 if there is none.
func numberPast(ctx context.Context, s Store, count int) (int64, error) {
	if count == 0 {
		return 0, nil
	}
	newest, err := s.Events(ctx, token.EventPage{Limit: count})
	if err != nil || len(newest) == 0 {
		return 0, err
	}
	return newest[len(newest)-1].Number, nil
}

// compare asks the store and the model, and fails if the answers differ.
func compare[T any](t *rapid.T, p pair, ask func(context.Context, Store) (T, error)) {
	t.Helper()
	got, err := ask(t.Context(), p.real)
	want, wantErr := ask(t.Context(), p.model)
	if kind(err) != kind(wantErr) {
		t.Fatalf("got error %v, want %v", err, wantErr)
	}
	if diff := cmp.Diff(want, got, likeness); err == nil && diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}
