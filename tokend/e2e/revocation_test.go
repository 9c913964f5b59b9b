package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tokend/tokend/web"
)

// steps is how many a run of the property has; there are 100 runs, or -rapid.checks.
const steps = 100

// TestNoCheckAfterARevokeSaysYes: whatever is done on three nodes, in whatever order, while
// the network holds back what they look up, fill and are told, and Redis loses tombstones.
func TestNoCheckAfterARevokeSaysYes(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{})
	for _, n := range g.nodes {
		n.toCache.Delay(func(fromClient bool, chunk []byte) time.Duration {
			// A fill, by its number of arguments: a look-up waits for none.
			if fromClient && bytes.HasPrefix(bytes.ToLower(chunk), []byte("*7\r\n$7\r\nevalsha")) && rand.IntN(2) == 0 {
				return rand.N(60 * time.Millisecond)
			}
			return 0
		})
		n.toStore.Delay(func(fromClient bool, chunk []byte) time.Duration {
			switch {
			case fromClient:
				return 0
			case chunk[0] == 'A': // a notification, and what that node asks because of it
				return rand.N(700 * time.Millisecond)
			case rand.IntN(10) == 0:
				return rand.N(40 * time.Millisecond)
			}
			return 0
		})
	}
	var runs, checks, yes atomic.Int64
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{grid: g, run: runs.Add(1), ctx: t.Context()}
		defer w.underWay.Wait()
		for range steps {
			w.step(rt)
		}
		w.underWay.Wait()
		checks.Add(w.checks.Load())
		yes.Add(w.yes.Load())
		if wrong := w.wrong.Load(); wrong != nil {
			rt.Fatal(*wrong)
		}
	})
	t.Logf("%d steps, %d checks, %d of them yes", runs.Load()*steps, checks.Load(), yes.Load())
	if yes.Load() < checks.Load()/10 {
		t.Error("hardly any check said yes: nothing was shown")
	}
}

// world is what was done in one run, and what may be said.
type world struct {
	*grid
	run      int64
	ctx      context.Context //nolint:containedctx // that of the test
	tokens   []*fate
	users    [3]fate
	underWay sync.WaitGroup
	mu       sync.Mutex // of the fates
	checks   atomic.Int64
	yes      atomic.Int64
	wrong    atomic.Pointer[string]
}

// fate is a token's, or a user's.
type fate struct {
	web.Created
	user    int
	expires time.Time // zero: never
	is      standing
	changes int // begun, or returned
}

// standing is what a check may rely on.
type standing int

const (
	good    standing = iota // every change that takes rights away was undone
	unclear                 // a change is under way
	over                    // the change that took the rights away has returned
)

// begin notes that a change of a fate begins, which gives rights or takes them away, and end
// that it has returned.
func (w *world) begin(f *fate, gives bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.changes++
	if gives || f.is != over { // what is over stays so while it is ended again
		f.is = unclear
	}
}

func (w *world) end(f *fate, is standing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.changes++
	f.is = is
}

func (w *world) now(f *fate) (is standing, changes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case f.expires.IsZero() || f.is == over:
	case time.Since(f.expires) > inexact:
		return over, f.changes
	case time.Until(f.expires) < inexact:
		return unclear, f.changes
	}
	return f.is, f.changes
}

// inexact is more than what a daemon's idea of the server's time may be wrong by, where the
// network holds its answers back.
const inexact = 400 * time.Millisecond

func (w *world) name(user int) string { return fmt.Sprintf("user%d-%d", w.run, user) }

func (w *world) step(rt *rapid.T) {
	node := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(rt, "node")]
	what := rapid.SampledFrom([]string{
		"check", "check", "check", "check", "check", "check", "check", "check", "check", "check",
		"create", "revoke", "revoke", "disable", "enable", "wait",
	}).Draw(rt, "what")
	if len(w.tokens) == 0 && what != "wait" {
		what = "create"
	}
	user := rapid.IntRange(0, len(w.users)-1).Draw(rt, "user")
	var err error
	switch what {
	case "wait":
		time.Sleep(time.Duration(rapid.IntRange(0, 20).Draw(rt, "ms")) * time.Millisecond)
	case "create":
		err = w.create(node, user, rapid.SampledFrom([]string{"never", "never", "1s"}).Draw(rt, "expiry"))
	case "disable", "enable":
		err = w.setDisabled(node, user, what == "disable")
	default:
		f := w.tokens[rapid.IntRange(max(0, len(w.tokens)-6), len(w.tokens)-1).Draw(rt, "token")]
		if what == "check" {
			w.underWay.Go(func() { w.check(node, f) })
			return
		}
		err = w.revoke(node, f, rapid.IntRange(0, 3).Draw(rt, "lost") == 0)
	}
	if err != nil {
		rt.Fatalf("%s: %v", what, err)
	}
}

func (w *world) create(node *node, user int, expiry string) error {
	if w.users[user].is == over {
		return nil // who is disabled gets none
	}
	made, err := node.create(w.ctx, w.name(user), expiry)
	if err != nil {
		return err
	}
	f := &fate{Created: made, user: user}
	if made.Token.Expires != nil {
		f.expires = *made.Token.Expires
	}
	w.tokens = append(w.tokens, f)
	return nil
}

// everywhere checks on all nodes at once.
func (w *world) everywhere(f *fate) {
	for _, n := range w.nodes {
		w.underWay.Go(func() { w.check(n, f) })
	}
}

// revoke ends a token, and then Redis may lose all that it has, the tombstone included.
func (w *world) revoke(node *node, f *fate, lost bool) error {
	w.everywhere(f) // look-ups are under way when it ends
	w.begin(f, false)
	if err := node.revoke(w.ctx, f.Token.ID); err != nil {
		return err
	}
	w.end(f, over)
	if lost {
		if _, err := w.redis.Exec(w.ctx, "FLUSHALL"); err != nil {
			return err
		}
	}
	w.everywhere(f)
	return nil
}

func (w *world) setDisabled(node *node, user int, disabled bool) error {
	var last *fate
	for _, f := range w.tokens {
		if f.user == user {
			last = f
		}
	}
	if last == nil {
		return nil // nobody knows the user yet
	}
	w.everywhere(last)
	w.begin(&w.users[user], !disabled)
	if err := node.setDisabled(w.ctx, w.name(user), disabled); err != nil {
		return err
	}
	is := good
	if disabled {
		is = over
	}
	w.end(&w.users[user], is)
	w.everywhere(last)
	return nil
}

// check asks, and holds the answer against what had been done before it began, and what was
// done until it ended.
func (w *world) check(node *node, f *fate) {
	u := &w.users[f.user]
	is, _ := w.now(f)
	userIs, userChanges := w.now(u)
	yes, reason, err := node.check(f.Token.User, f.Secret)
	isNow, _ := w.now(f)
	_, userChangesNow := w.now(u)
	same := userChanges == userChangesNow
	w.checks.Add(1)
	switch {
	case err != nil:
		w.fail(f, "no answer: %v", err)
	case yes && (is == over || userIs == over && same):
		w.fail(f, "WRONG YES")
	case !yes && is == good && isNow == good && userIs == good && same:
		w.fail(f, "wrong no: %s", reason)
	}
	if yes {
		w.yes.Add(1)
	}
}

// fail keeps the first failure, with what the daemons' logs say of the token.
func (w *world) fail(f *fate, format string, args ...any) {
	text := fmt.Sprintf(format, args...) + fmt.Sprintf(": token %s of %s, which expires %v", f.Token.ID, f.Token.User, f.Token.Expires)
	for i, n := range w.nodes {
		log, _ := os.ReadFile(n.site.Log())
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, f.Token.ID) || strings.Contains(line, f.Token.User) && !strings.Contains(line, "verdict") {
				text += fmt.Sprintf("\nnode %d: %s", i, strings.TrimSpace(line))
			}
		}
	}
	w.wrong.CompareAndSwap(nil, &text)
}
