package manage

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"tokend/tokend/token"
)

// UseStore keeps when tokens were used last.
type UseStore interface {
	NoteUses(ctx context.Context, uses []token.Use) error
}

// Uses notes when tokens were good for something last, and keeps that now and then, by many at once: no login waits for
// it. Its methods may be called concurrently.
type Uses struct {
	store UseStore
	log   *slog.Logger
	mu    sync.Mutex
	noted map[string]token.Use // by the token's ID; of each the last that is not kept yet
}

const (
	// keepEvery is how often what was noted is kept.
	keepEvery = time.Minute
	// keepAtOnce is how many are kept by one change.
	keepAtOnce = 1000
	// keepTimeout is how long that may take at the end.
	keepTimeout = 5 * time.Second
	// mostNoted is of how many tokens it is noted at most, until they are kept.
	mostNoted = 1_000_000
)

// NewUses returns what notes them for the store.
func NewUses(store UseStore, log *slog.Logger) *Uses {
	return &Uses{store: store, log: log, noted: map[string]token.Use{}}
}

// Note notes that the token was good for something. It waits for nothing.
func (u *Uses) Note(use token.Use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if last, known := u.noted[use.Token]; known && !use.At.After(last.At) || !known && len(u.noted) >= mostNoted {
		return
	}
	u.noted[use.Token] = use
}

// Run keeps what was noted once a minute until ctx ends, and then what is left.
func (u *Uses) Run(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			u.keep(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
			defer cancel()
			u.keep(last)
			return
		}
	}
}

// keep keeps what was noted. What cannot be kept is noted again.
func (u *Uses) keep(ctx context.Context) {
	u.mu.Lock()
	noted := slices.Collect(maps.Values(u.noted))
	clear(u.noted)
	u.mu.Unlock()
	for some := range slices.Chunk(noted, keepAtOnce) {
		err := u.store.NoteUses(ctx, some)
		if err == nil {
			continue
		}
		u.log.WarnContext(ctx, "when tokens were used last is not kept yet", "err", err)
		for _, use := range some {
			u.Note(use)
		}
	}
}
