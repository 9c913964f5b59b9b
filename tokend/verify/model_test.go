package verify_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestNoInterleavingIsAnsweredWrongly plays random scripts of checks, changes and
// faults. Look-ups are held before and behind the store's read, over changes and
// time-outs. A model that knows neither cache nor store says which reasons were
// true at some time between a check's begin and its end; the verdict is one of
// them. "unavailable" needs a store that failed, or a look-up that was held, then or lately.
func TestNoInterleavingIsAnsweredWrongly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.Custom(drawStep), 20, 80).Draw(rt, "script")
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = play(t, script) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// step is one thing that happens. What its kind has no use for is ignored.
type step struct {
	Do       string
	Slot     int           // of the token
	User     string        // who presents it, or is changed
	Hold     hold          // what happens to the check's look-up
	Time     time.Duration // that passes, or that a minted token lives; 0: for ever
	Settings verify.Settings
}

// GoString is how rapid shows a script.
func (s step) GoString() string {
	return fmt.Sprintf("\n{%s slot=%d user=%s hold=%s time=%s %v}", s.Do, s.Slot, s.User, s.Hold, s.Time, s.Settings)
}

type hold string

const (
	through hold = "no"
	early   hold = "before the read"
	late    hold = "after the read"
	deafly  hold = "after the read, whatever its deadline"
)

func drawStep(t *rapid.T) step {
	second := time.Second
	return step{
		Do: rapid.SampledFrom([]string{
			"check", "check", "check", "check", "check", "check", "release", "release", "revoke", "mint",
			"disable", "enable", "enable", "wait", "wait", "store fails", "store works", "apply",
		}).Draw(t, "do"),
		Slot: rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 2, 3}).Draw(t, "slot"),
		User: rapid.SampledFrom([]string{"alice", "alice", "alice", "bob"}).Draw(t, "user"),
		Hold: rapid.SampledFrom([]hold{through, through, early, late, deafly}).Draw(t, "hold"),
		Time: rapid.SampledFrom([]time.Duration{0, 400 * time.Millisecond, second, 3 * second, 10 * second, 30 * second, 70 * second}).Draw(t, "time"),
		Settings: verify.Settings{
			TTL:       rapid.SampledFrom([]time.Duration{second, 10 * second, time.Minute}).Draw(t, "ttl"),
			Stale:     rapid.SampledFrom([]time.Duration{0, 10 * second, time.Minute}).Draw(t, "stale"),
			MaxExpiry: rapid.SampledFrom([]token.Life{0, 0, 20, 120}).Draw(t, "max"),
		},
	}
}

// slots of tokens: alice has two, bob one; the last is of a token that is not
// kept.
const slots = 4

var owners = [slots - 1]string{"alice", "alice", "bob"}

// truth is what the model knows of a token.
type truth struct {
	secret           token.Secret
	owner            string // empty: it is not kept
	created, expires time.Time
	revoked          bool
}

type check struct {
	about *truth
	user  string
	seen  map[state]bool         // since its begin
	can   map[verify.Reason]bool // be the verdict
	got   chan verify.Reason
}

// state is what the store says of a token, and others can change.
type state struct{ revoked, disabled bool }

func play(t *testing.T, script []step) error {
	t.Helper()
	w := &world{fixture: newFixture(t, verify.Config{Logger: discard}), disabled: map[string]bool{}}
	w.settings = verify.Settings{TTL: ttl, Stale: stale}
	w.source.replace(w.lookUp)
	w.setHold(through)
	for slot := range w.tokens {
		w.tokens[slot] = &truth{secret: token.Mint()}
		if err := w.mintIn(t.Context(), slot, 0); err != nil {
			return err
		}
	}
	for slot, user := range owners { // at the end everything is asked again, with nothing in the way
		script = append(script, step{Do: "check", Slot: slot, User: user, Hold: through})
	}
	defer w.calm()
	for i, s := range script {
		if i == len(script)-len(owners) {
			w.calm()
		}
		if err := w.do(t.Context(), s); err != nil {
			return fmt.Errorf("step %d: %s: %w", i, s.Do, err)
		}
		if err := w.judge(); err != nil {
			return fmt.Errorf("step %d (%s): %w", i, s.Do, err)
		}
	}
	if len(w.underWay) > 0 {
		return errors.New("a check does not end")
	}
	return nil
}

// begin starts a check, whose look-up, if it makes one, is held as the step says.
func (w *world) begin(ctx context.Context, s step) {
	c := &check{about: w.tokens[s.Slot], user: s.User, seen: map[state]bool{}, can: map[verify.Reason]bool{}, got: make(chan verify.Reason, 1)}
	w.note(c)
	c.can[verify.Unavailable] = w.hangs()
	w.setHold(s.Hold)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond) // as the socket's server
		defer cancel()
		c.got <- w.Check(ctx, c.user, c.about.secret.Reveal()).Reason
	}()
	synctest.Wait()
	w.setHold(through)
	w.underWay = append(w.underWay, c)
}

// judge looks at the checks that have ended, and notes for the others what is
// true now.
func (w *world) judge() error {
	synctest.Wait()
	var still []*check
	for _, c := range w.underWay {
		w.note(c)
		if w.fails.Load() {
			c.can[verify.Unavailable] = true
		}
		select {
		case got := <-c.got:
			if !c.can[got] {
				return fmt.Errorf("%s with a token of %q: got %s, can be %v", c.user, c.about.owner, got, c.can)
			}
		default:
			c.can[verify.Unavailable] = true // it waits for a look-up that is held
			still = append(still, c)
		}
	}
	w.underWay = still
	return nil
}

// note adds what is true now to what the check can say. It may have read the
// store at any time since it began, and looked at the clock later.
func (w *world) note(c *check) {
	c.seen[state{c.about.revoked, w.disabled[c.about.owner]}] = true
	for s := range c.seen {
		c.can[w.reason(c, s)] = true
	}
}

// reason is the model's own verdict, now.
func (w *world) reason(c *check, s state) verify.Reason {
	end := c.about.expires
	if limit := time.Duration(w.settings.MaxExpiry) * time.Second; limit > 0 {
		if latest := c.about.created.Add(limit); end.IsZero() || latest.Before(end) {
			end = latest
		}
	}
	switch {
	case c.about.owner == "":
		return verify.Unknown
	case s.revoked:
		return verify.Revoked
	case !end.IsZero() && time.Now().After(end):
		return verify.Expired
	case s.disabled:
		return verify.UserDisabled
	case c.about.owner != c.user:
		return verify.WrongUser
	}
	return verify.OK
}
