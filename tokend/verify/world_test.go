package verify_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// world is the Verifier, the model's knowledge, and the checks under way. This
// file has what is done to it; the model judges.
type world struct {
	*fixture
	tokens   [slots]*truth
	disabled map[string]bool
	settings verify.Settings
	fails    atomic.Bool
	hold     atomic.Pointer[hold] // what happens to look-ups that begin now
	mu       sync.Mutex
	held     []chan struct{}
	hung     time.Time // when the last look-up was held
	underWay []*check
}

func (w *world) do(ctx context.Context, s step) error {
	switch s.Do {
	case "check":
		w.begin(ctx, s)
	case "release":
		w.release(s.Slot)
	case "revoke":
		return w.revokeIn(ctx, s.Slot)
	case "mint":
		return w.mintIn(ctx, s.Slot, s.Time)
	case "disable", "enable":
		return w.setDisabled(ctx, s.User, s.Do == "disable")
	case "wait":
		time.Sleep(s.Time)
	case "store fails", "store works":
		w.fails.Store(s.Do == "store fails")
	case "apply":
		w.settings = s.Settings
		w.Apply(s.Settings)
	}
	return nil
}

// lookUp is the store with its faults.
func (w *world) lookUp(ctx context.Context, digest token.Digest) (token.Record, error) {
	hold := *w.hold.Load()
	if w.fails.Load() {
		return token.Record{}, errAway
	}
	if hold == early {
		w.wait(ctx, hold)
	}
	record, err := w.source.Store.Lookup(ctx, digest)
	if hold == late || hold == deafly {
		w.wait(ctx, hold)
	}
	return record, err
}

func (w *world) wait(ctx context.Context, hold hold) {
	gate := make(chan struct{})
	w.mu.Lock()
	w.held = append(w.held, gate)
	w.hung = time.Now()
	w.mu.Unlock()
	if hold == deafly {
		<-gate
		return
	}
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

func (w *world) setHold(h hold) { w.hold.Store(&h) }

// hangs tells whether a look-up was held so lately that the Verifier may not have found out
// that the next one is not.
func (w *world) hangs() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Since(w.hung) <= time.Second
}

// release lets one of the held look-ups go on.
func (w *world) release(which int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) > 0 {
		which %= len(w.held)
		close(w.held[which])
		w.held = append(w.held[:which], w.held[which+1:]...)
	}
}

// calm puts nothing in the way any more, and lets what is under way end.
func (w *world) calm() {
	w.fails.Store(false)
	for range len(w.held) {
		w.release(0)
	}
	time.Sleep(2 * time.Second)
}

// The changes, in the store first, and then told to the Verifier. Each is done
// when it returns.

func (w *world) mintIn(ctx context.Context, slot int, life time.Duration) error {
	if slot == len(owners) {
		return nil
	}
	made := &truth{secret: token.Mint(), owner: owners[slot], created: time.Now()}
	record := token.Record{ID: token.NewID(), Digest: made.secret.Digest(), Owner: made.owner, Created: made.created}
	if life > 0 {
		made.expires = made.created.Add(life)
		record.Expires = made.expires
	}
	err := w.source.Mint(ctx, record, token.Quota{}, token.Event{At: made.created})
	if w.disabled[made.owner] && errors.Is(err, token.ErrUserDisabled) {
		return nil
	}
	w.tokens[slot] = made
	return err
}

func (w *world) revokeIn(ctx context.Context, slot int) error {
	about := w.tokens[slot]
	_, err := w.source.Revoke(ctx, token.Selection{Digest: about.secret.Digest()}, time.Now(), token.Event{At: time.Now()})
	if about.owner == "" && errors.Is(err, token.ErrNotFound) {
		return nil
	}
	about.revoked = true
	return errors.Join(err, w.Forget(ctx, about.secret.Digest()))
}

func (w *world) setDisabled(ctx context.Context, user string, disabled bool) error {
	digests, _, err := w.source.SetDisabled(ctx, user, disabled, time.Now(), token.Event{At: time.Now()})
	w.disabled[user] = disabled
	return errors.Join(err, w.Forget(ctx, digests...))
}
