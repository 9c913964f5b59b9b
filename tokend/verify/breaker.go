package verify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// tolerated is how many look-ups, without an answer since the first of them began, may keep
	// logins waiting.
	tolerated = 3
	// patience is how long a login waits for a store that was too slow before. What fails
	// sooner costs nobody time.
	patience = 100 * time.Millisecond
)

// breaker keeps logins from waiting for a store that hangs. While it does, one question at
// a time is under way, which tells when it is well again: logins wait for that one until it
// is as old as their patience.
type breaker struct {
	log *slog.Logger

	mu       sync.Mutex
	failures int       // slow ones, begun since the last answer
	why      error     // the last one
	answered time.Time // when that answer came
	question *question // nil: none is under way
}

type question struct {
	begun time.Time
	ended chan struct{}
}

// note takes notice of how a look-up ended: err is nil if the store has answered.
func (b *breaker) note(ctx context.Context, begun time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		if b.failures >= tolerated {
			b.log.InfoContext(ctx, "logins wait for the store again")
		}
		b.failures, b.why, b.answered = 0, nil, time.Now()
	case begun.Before(b.answered): // as what was asked on a connection that has become silent; others answer
	case time.Since(begun) >= patience:
		b.why = err
		if b.failures++; b.failures == tolerated {
			b.log.WarnContext(ctx, "the store hangs: until it answers, no login waits for it long, and cached records are believed", "err", err)
		}
	}
}

// err is nil while logins may wait for the store, else why not.
func (b *breaker) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures < tolerated {
		return nil
	}
	return fmt.Errorf("the store hangs: %w", b.why)
}

// wait returns nil if the login may ask the store and wait for it. While the store hangs,
// it sees to it that it is asked, by ask.
func (b *breaker) wait(ctx context.Context, ask func()) error {
	if b.err() == nil {
		return nil
	}
	q := b.put(ask)
	late := time.NewTimer(time.Until(q.begun.Add(patience)))
	defer late.Stop()
	select {
	case <-q.ended:
	case <-late.C:
	case <-ctx.Done():
	}
	return b.err()
}

// put returns the question that is under way, which is a new one if there was none, or one
// that has not ended in its time.
func (b *breaker) put(ask func()) *question {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.question == nil || time.Since(b.question.begun) > lookupTimeout {
		q := &question{begun: time.Now(), ended: make(chan struct{})}
		b.question = q
		go func() {
			defer close(q.ended)
			ask()
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.question == q {
				b.question = nil
			}
		}()
	}
	return b.question
}
