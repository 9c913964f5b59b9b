package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"tokend/config"
	"tokend/tokend/socket"
)

// How long the start and a reload may wait for the configuration.
const (
	startTimeout  = 30 * time.Second
	reloadTimeout = 3 * time.Second
)

// reloadOnHangup loads the configuration again at every SIGHUP.
func (n *node) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.hangup:
			n.notifier.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			n.reload(ctx)
			n.notifier.tell(daemon.SdNotifyReady)
		}
	}
}

// reload takes over what can be changed while running, and says what can't. A
// configuration with a mistake changes nothing.
func (n *node) reload(ctx context.Context) {
	read, err := loadSoon(ctx, n.path, reloadTimeout)
	if err == nil && n.configured && read.origin != config.File {
		err = fmt.Errorf("%s is empty or gone; for the defaults, start tokend again", n.path)
	}
	if err != nil {
		n.reloaded.Set(0)
		n.log.Error("configuration not reloaded: the old one stays in force", "err", err)
		return
	}
	next := read.cfg
	if keys := n.cfg.NeedsRestart(next); len(keys) > 0 {
		n.log.Warn("these keys of the configuration need a restart", "keys", strings.Join(keys, " "))
	}
	changed := n.cfg.Changed(next)
	n.level.Set(next.Log.Level)
	for _, s := range []struct {
		guard   *socket.Guard
		section string
		names   []string
	}{{n.auth, "auth", next.Auth.Peers}, {n.admin, "admin", next.Admin.Peers}} {
		key := s.section + ".peers"
		if n.setPeers(s.guard, s.section, s.names) && !slices.Contains(changed, key) { // a user who is known by now
			changed = append(changed, key)
		}
	}
	n.verifier.Apply(settings(next))
	n.manager.Apply(limits(next))
	n.cfg.Log.Level, n.cfg.Auth.Peers, n.cfg.Admin.Peers = next.Log.Level, next.Auth.Peers, next.Admin.Peers
	n.cfg.Knox.Refresh, n.cfg.Names = next.Knox.Refresh, next.Names
	n.cfg.Tokens, n.cfg.Cache.TTL, n.cfg.Cache.Stale = next.Tokens, next.Cache.TTL, next.Cache.Stale
	n.reloaded.Set(1)
	n.takeNote(read)
	if slices.ContainsFunc(changed, func(key string) bool { return strings.HasPrefix(key, "names.") }) {
		n.warnOfNames()
	}
	if len(changed) == 0 {
		changed = []string{"nothing"}
	}
	n.log.Info("configuration reloaded", "changed", strings.Join(changed, " "))
}

// loaded is a configuration and where it is from.
type loaded struct {
	cfg    config.Config
	origin config.Origin
}

// loadSoon loads the configuration, and leaves behind a file that hangs: a pipe
// that nobody writes to, say, or one on a server that is gone.
func loadSoon(ctx context.Context, path string, limit time.Duration) (loaded, error) {
	type result struct {
		loaded
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.cfg, r.origin, r.err = config.Load(path)
		done <- r
	}()
	select {
	case r := <-done:
		return r.loaded, r.err
	case <-ctx.Done():
		return loaded{}, fmt.Errorf("read %s: %w", path, ctx.Err())
	case <-time.After(limit):
		return loaded{}, fmt.Errorf("read %s: it did not come within %s; is it a file, on a disk that works?", path, limit)
	}
}

// takeNote says if there is no file, which a wrong path may be why. One that
// vanishes later, while it is being replaced, must not lift every limit.
func (n *node) takeNote(l loaded) {
	n.configured = l.origin == config.File
	if l.origin != config.Absent {
		return
	}
	const message = "there is no configuration: every key has its default"
	if n.path == configPath {
		n.log.Info(message, "config", n.path)
	} else {
		n.log.Warn(message, "config", n.path) // somebody meant this one
	}
}

// setPeers changes who may ask, and with it the access rules of a socket that is our
// own; that of systemd's is SocketMode=. It reports whether others may ask now.
func (n *node) setPeers(guard *socket.Guard, section string, names []string) (changed bool) {
	peers := n.resolve(section, names)
	changed = guard.SetPeers(peers)
	n.letIn(guard, section, peers)
	return changed
}

// letIn sees to it that peers can connect, and nobody else.
func (n *node) letIn(guard *socket.Guard, section string, peers socket.Peers) {
	switch err := guard.LetIn(peers); {
	case errors.Is(err, socket.ErrOpen):
		n.log.Warn("the socket is open to strangers", "section", section, "err", err)
	case err != nil:
		n.log.Error("peers may be kept out of the socket", "section", section, "err", err)
	}
	warnOfClosed(n.log, guard.Addr().String())
}
