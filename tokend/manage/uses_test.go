package manage_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// useLog is told of uses, and may refuse them.
type useLog struct {
	mu    sync.Mutex
	calls [][]token.Use
	err   error
}

func (l *useLog) NoteUses(ctx context.Context, uses []token.Use) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, uses)
	return errors.Join(l.err, ctx.Err())
}

// taken returns what it was told since the last time.
func (l *useLog) taken() (calls int, last map[string]token.Use) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last = map[string]token.Use{}
	for _, uses := range l.calls {
		for _, u := range uses {
			last[u.Token] = u
		}
	}
	calls, l.calls = len(l.calls), nil
	return calls, last
}

// TestUsesAreKeptOnceAMinute, each token's last, and all that is left at the end.
func TestUsesAreKeptOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(useLog)
		uses := manage.NewUses(log, discard)
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { uses.Run(ctx) })
		first, later := time.Now(), time.Now().Add(time.Second)
		for range 100 {
			uses.Note(token.Use{Token: "a", At: later, API: true})
			uses.Note(token.Use{Token: "a", At: first})
			uses.Note(token.Use{Token: "b", At: first})
		}
		time.Sleep(59 * time.Second)
		if calls, _ := log.taken(); calls != 0 {
			t.Errorf("%d changes within the first minute", calls)
		}
		time.Sleep(2 * time.Second)
		calls, last := log.taken()
		same(t, "changes", calls, 1)
		same(t, "uses", last, map[string]token.Use{"a": {Token: "a", At: later, API: true}, "b": {Token: "b", At: first}})
		time.Sleep(10 * time.Minute)
		if calls, _ := log.taken(); calls != 0 {
			t.Errorf("%d changes, and nothing was used", calls)
		}
		uses.Note(token.Use{Token: "c", At: time.Now()})
		end()
		running.Wait()
		if _, last := log.taken(); len(last) != 1 {
			t.Errorf("at the end it keeps %v", last)
		}
	})
}

// TestUsesThatCannotBeKeptAreKeptLater, unless something later has been noted.
func TestUsesThatCannotBeKeptAreKeptLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &useLog{err: errors.New("the disk is full")}
		uses := manage.NewUses(log, discard)
		ctx, end := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { uses.Run(ctx) })
		const many = 2500 // by more than one change
		at := time.Now()
		for i := range many {
			uses.Note(token.Use{Token: fmt.Sprint(i), At: at})
		}
		time.Sleep(61 * time.Second)
		if calls, last := log.taken(); calls != 3 || len(last) != many {
			t.Errorf("%d changes of %d tokens", calls, len(last))
		}
		uses.Note(token.Use{Token: "0", At: at.Add(time.Second)})
		log.mu.Lock()
		log.err = nil
		log.mu.Unlock()
		time.Sleep(time.Minute)
		if _, last := log.taken(); len(last) != many || !last["0"].At.Equal(at.Add(time.Second)) || !last["1"].At.Equal(at) {
			t.Errorf("%d are kept later, the first as of %s", len(last), last["0"].At)
		}
		end()
		running.Wait()
	})
}
