package main

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// notifyTimeout is how long the service manager may take to listen.
const notifyTimeout = time.Second

// notifier tells the service manager, if there is one, how the daemon is. One
// that has stopped listening is not waited for; what it missed it hears, in
// order, when it goes on.
type notifier struct {
	log  *slog.Logger
	wait time.Duration
	send func(state string) error
	mu   sync.Mutex
	last chan struct{} // closed when the last notice was taken; nil: there was none
}

func newNotifier(log *slog.Logger) *notifier {
	return &notifier{log: log, wait: notifyTimeout, send: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
}

func (n *notifier) tell(state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, taken := n.last, make(chan struct{})
	n.last = taken
	failed := make(chan error, 1)
	go func() {
		defer close(taken)
		if before != nil {
			<-before
		}
		failed <- n.send(state)
	}()
	var err error
	select {
	case err = <-failed:
	case <-time.After(n.wait):
		err = fmt.Errorf("it did not listen within %s", n.wait)
	}
	if err != nil {
		n.log.Warn("service manager was not told", "state", state, "err", err)
	}
}
