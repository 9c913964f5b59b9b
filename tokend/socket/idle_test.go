package socket_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"tokend/tokend/verify"
)

// TestAfterACrowdFewGoroutinesWait for connections, and they answer those that come.
func TestAfterACrowdFewGoroutinesWait(t *testing.T) {
	const crowd, most = 300, 64
	var here atomic.Int64
	complete := make(chan struct{})
	path := serve(t, 0, func(ctx context.Context, user, secret string) verify.Verdict {
		if secret == "wait" { // so that each has a goroutine of its own
			if here.Add(1) == crowd {
				close(complete)
			}
			select {
			case <-complete:
			case <-ctx.Done():
				return verify.Verdict{}
			}
		}
		return alice(ctx, user, "right")
	}).path
	before := runtime.NumGoroutine()
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			if got, err := converse(dial(t, path), request("alice", "wait")); got != yes {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	all.Wait()
	eventually(t, "few wait", func() bool { return runtime.NumGoroutine() <= before+most })
	for range 2 * most {
		if got := exchange(t, path, request("alice", "right")); got != yes {
			t.Errorf("got %q", got)
		}
	}
	if now := runtime.NumGoroutine(); now > before+most+1 {
		t.Errorf("%d goroutines are left of %d", now-before, crowd)
	}
}
