package socket_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/verify"
)

// TestInACrowdANoTakesAMoment, and a yes does not: who asks with wrong tokens without a
// pause leaves the processors to the others.
func TestInACrowdANoTakesAMoment(t *testing.T) {
	for _, c := range []struct {
		others int
		secret string
		takes  time.Duration
	}{
		{7, "wrong", 0}, {8, "wrong", 100 * time.Millisecond}, {500, "wrong", 100 * time.Millisecond},
		{7, "right", 0}, {8, "right", 0}, {500, "right", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, p := servePipes(t, 0, func(_ context.Context, _, secret string) verify.Verdict {
				if secret == "right" {
					return verify.Verdict{Reason: verify.OK}
				}
				return verify.Verdict{Reason: verify.Unknown}
			})
			for range c.others {
				p.dial(t)
			}
			begun := time.Now()
			reply, err := converse(p.dial(t), request("alice", c.secret))
			if want := map[string]string{"right": yes, "wrong": no("unknown")}[c.secret]; err != nil || reply != want {
				t.Errorf("got %q, %v", reply, err)
			}
			if took := time.Since(begun); took != c.takes {
				t.Errorf("%s among %d others took %s, want %s", c.secret, c.others, took, c.takes)
			}
		})
	}
}
