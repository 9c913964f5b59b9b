package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"tokend/cache"
	"tokend/config"
	"tokend/tokend/manage"
	"tokend/tokend/socket"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/verify"
	"tokend/tokend/web"
)

// maxMetricsConnections is how many may be open on [http] metrics.
const maxMetricsConnections = 32

// loadTimeout is how long a reload may wait for the configuration.
const loadTimeout = 3 * time.Second

// node is a running daemon: what its parts are, and what a reload changes.
type node struct {
	path       string
	cfg        config.Config
	configured bool             // whether cfg is from the file at path
	hangup     <-chan os.Signal // each is a wish to reload the configuration
	log        *slog.Logger
	level      *slog.LevelVar
	registry   *prometheus.Registry
	reloaded   prometheus.Gauge
	store      *sqlite.Store
	verifier   *verify.Verifier
	manager    *manage.Manager
	auth       *socket.Guard
	admin      *socket.Guard
	metrics    net.Listener // nil: turned off
	server     *socket.Server
}

// serve runs the daemon until ctx ends, and then lets it end cleanly.
func serve(ctx context.Context, hangup <-chan os.Signal, path string, cfg config.Config, stderr io.Writer) (err error) {
	signal.Ignore(syscall.SIGPIPE) // or the daemon ends when nobody reads its log
	n := &node{path: path, configured: isThere(path), cfg: cfg, hangup: hangup}
	n.registry, n.reloaded = newRegistry()
	if file, ok := stderr.(*os.File); ok {
		stderr = newLogWriter(file, n.registry)
	}
	n.log, n.level = newLogger(stderr, cfg.Log)
	n.tellIfAbsent()
	if n.store, err = sqlite.Open(ctx, sqlite.Config{
		Path: strings.TrimPrefix(cfg.Store.URL, "sqlite:"), Logger: n.log, Registerer: n.registry,
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if err := n.assemble(); err != nil {
		return err
	}
	if err := n.listen(ctx); err != nil {
		return errors.Join(err, n.hangUp())
	}
	return n.run(ctx)
}

// assemble makes the parts that judge and manage.
func (n *node) assemble() error {
	records, err := cache.NewMemory(n.cfg.Cache.Entries)
	if err != nil {
		return err
	}
	if n.verifier, err = verify.New(verify.Config{
		Source: n.store, Cache: records, CacheTier: "memory",
		Settings: settings(n.cfg), Logger: n.log, Registerer: n.registry,
	}); err != nil {
		return err
	}
	n.manager = manage.New(manage.Config{
		Store: n.store, Forget: n.verifier.Forget,
		Limits: limits(n.cfg), Logger: n.log, Registerer: n.registry,
	})
	return nil
}

func settings(cfg config.Config) verify.Settings {
	return verify.Settings{TTL: cfg.Cache.TTL, Stale: cfg.Cache.Stale, MaxExpiry: cfg.Tokens.MaxExpiry}
}

func limits(cfg config.Config) manage.Limits {
	return manage.Limits{DefaultExpiry: cfg.Tokens.DefaultExpiry, MaxExpiry: cfg.Tokens.MaxExpiry, MaxPerUser: cfg.Tokens.MaxPerUser}
}

// listen opens all sockets, or takes over those that systemd passed.
func (n *node) listen(ctx context.Context) error {
	passed, err := inherited(n.cfg.Auth.Socket, n.cfg.Admin.Socket)
	if err != nil {
		return err
	}
	rejections := socket.NewRejections(n.registry)
	n.server = socket.New(socket.Config{Check: n.verifier.Check, Logger: n.log, Rejections: rejections})
	for _, s := range []struct {
		name, path string
		peers      []string
		guard      **socket.Guard
	}{
		{"auth", n.cfg.Auth.Socket, n.cfg.Auth.Peers, &n.auth},
		{"admin", n.cfg.Admin.Socket, n.cfg.Admin.Peers, &n.admin},
	} {
		peers := n.resolve(s.name, s.peers)
		listener := passed[s.path]
		if listener == nil {
			if listener, err = socket.Listen(ctx, s.path, peers.Mode()); err != nil {
				return fmt.Errorf("[%s] socket: %w", s.name, err)
			}
		}
		*s.guard = socket.NewGuard(listener, peers, n.log, rejections)
	}
	if n.cfg.HTTP.Metrics == "" {
		return nil
	}
	metrics, err := new(net.ListenConfig).Listen(ctx, "tcp", n.cfg.HTTP.Metrics)
	if err != nil {
		return fmt.Errorf("[http] metrics: %w; choose another address, or \"\" for none", err)
	}
	// Anybody on the machine can connect: let them not use up the descriptors
	// that logins need.
	n.metrics = netutil.LimitListener(metrics, maxMetricsConnections)
	return nil
}

// hangUp closes what was opened when not all could be, so that no socket is left
// that nobody listens on.
func (n *node) hangUp() error {
	var errs []error
	for _, guard := range []*socket.Guard{n.auth, n.admin} {
		if guard != nil {
			errs = append(errs, guard.Close())
		}
	}
	return errors.Join(errs...)
}

func (n *node) resolve(section string, names []string) socket.Peers {
	peers, missing := socket.ResolvePeers(names)
	if len(missing) > 0 {
		n.log.Warn("peers are not known on this machine, or stand for nobody in particular, and may not ask; reload (SIGHUP) once they are known",
			"section", section, "missing", strings.Join(missing, " "))
	}
	return peers
}

// run serves until ctx ends or a server breaks.
func (n *node) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.server.Serve(ctx, n.auth) })
	admin := http.NewServeMux()
	admin.Handle("/api/", web.NewAPI(web.Config{Manager: n.manager, Version: version.Version, Logger: n.log}))
	admin.Handle("/", n.health()) // where strangers can't crowd admins out
	group.Go(func() error { return n.serveHTTP(ctx, n.admin, stillPeers(n.admin, admin), withPeer) })
	if n.metrics != nil {
		group.Go(func() error { return n.serveHTTP(ctx, n.metrics, n.health(), nil) })
	}
	group.Go(func() error { return n.reloadOnHangup(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		n.notify(daemon.SdNotifyStopping)
		return nil
	})
	n.log.Info("tokend serves", "version", version.Version, "pid", os.Getpid(), "config", n.path,
		"auth", n.cfg.Auth.Socket, "admin", n.cfg.Admin.Socket, "metrics", n.cfg.HTTP.Metrics)
	n.notify(daemon.SdNotifyReady)
	err := group.Wait()
	if err != nil {
		return err // the last that is said
	}
	n.log.Info("tokend ends")
	return nil
}

// reloadOnHangup loads the configuration again at every SIGHUP.
func (n *node) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.hangup:
			n.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			n.reload()
			n.notify(daemon.SdNotifyReady)
		}
	}
}

// reload takes over what can be changed while running, and says what can't. A
// configuration with a mistake changes nothing.
func (n *node) reload() {
	there := isThere(n.path)
	next, err := loadSoon(n.path)
	if err == nil && n.configured && !there {
		err = fmt.Errorf("%s is empty or gone; for the defaults, start tokend again", n.path)
	}
	if err != nil {
		n.reloaded.Set(0)
		n.log.Error("configuration not reloaded: the old one stays in force", "err", err)
		return
	}
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
	n.cfg.Tokens, n.cfg.Cache.TTL, n.cfg.Cache.Stale = next.Tokens, next.Cache.TTL, next.Cache.Stale
	n.configured = there
	n.reloaded.Set(1)
	n.tellIfAbsent()
	if len(changed) == 0 {
		changed = []string{"nothing"}
	}
	n.log.Info("configuration reloaded", "changed", strings.Join(changed, " "))
}

// isThere tells whether there is a configuration and anything in it. One that
// vanished while it was being replaced would otherwise lift every limit.
func isThere(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// tellIfAbsent says that the configuration is not there, which a wrong path may
// be why.
func (n *node) tellIfAbsent() {
	if _, err := os.Stat(n.path); errors.Is(err, fs.ErrNotExist) {
		n.log.Info("there is no configuration: every key has its default", "config", n.path)
	}
}

// loadSoon loads the configuration, and leaves behind a file that hangs: a pipe
// that nobody writes to, say, or one on a server that is gone.
func loadSoon(path string) (config.Config, error) {
	type loaded struct {
		cfg config.Config
		err error
	}
	done := make(chan loaded, 1)
	go func() {
		cfg, err := config.Load(path)
		done <- loaded{cfg, err}
	}()
	select {
	case l := <-done:
		return l.cfg, l.err
	case <-time.After(loadTimeout):
		return config.Config{}, fmt.Errorf("read %s: it did not come within %s; is it a file, on a disk that works?", path, loadTimeout)
	}
}

// setPeers changes who may ask, and with it the mode of a socket that is our
// own; that of systemd's is SocketMode=. It reports whether others may ask now.
func (n *node) setPeers(guard *socket.Guard, section string, names []string) (changed bool) {
	peers := n.resolve(section, names)
	changed = guard.SetPeers(peers)
	if err := guard.SetMode(peers.Mode()); err != nil {
		n.log.Error("mode of the socket was not set: new peers may be kept out", "section", section, "err", err)
	}
	return changed
}

// notify tells the service manager, if one listens.
func (n *node) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("service manager was not told", "state", state, "err", err)
	}
}
