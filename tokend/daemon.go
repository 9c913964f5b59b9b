package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"tokend/cache"
	"tokend/config"
	"tokend/tokend/manage"
	"tokend/tokend/socket"
	"tokend/tokend/store/knox"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
	"tokend/tokend/verify"
	"tokend/tokend/web"
)

// How many connections may be open on [http] metrics and on [http] listen.
const (
	maxMetricsConnections = 32
	maxConnections        = 256
)

// node is a running daemon: what its parts are, and what a reload changes.
type node struct {
	path       string
	cfg        config.Config
	configured bool             // whether cfg is from the file at path
	hangup     <-chan os.Signal // each is a wish to reload the configuration
	log        *slog.Logger
	level      *slog.LevelVar
	notifier   *notifier
	registry   *prometheus.Registry
	reloaded   prometheus.Gauge
	store      tokenStore
	knox       *knox.Store               // nil: there is none
	knoxUp     atomic.Bool               // whether it answered when it was asked the last time
	knoxAway   atomic.Bool               // whether the log has it that it does not
	knoxSeen   atomic.Pointer[time.Time] // when it did
	redis      *cache.Redis              // nil: the cache is this process' own
	newestKey  atomic.Uint32             // the number of the one that seals there, as far as was heard
	rotating   sync.Mutex                // one rotation at a time waits for that
	storeUp    atomic.Bool               // whether the store answered when it was asked the last time
	storeSeen  atomic.Pointer[time.Time] // when it did
	verifier   *verify.Verifier
	manager    *manage.Manager
	uses       *manage.Uses
	auth       *socket.Guard
	admin      *socket.Guard
	server     *socket.Server
	unserved   sync.Map        // why what is not served on its address of [http] is not: an error by what it is
	ends       <-chan struct{} // closed when the daemon ends, and its sockets with it
}

// serve runs the daemon until ctx ends, and then lets it end cleanly.
func serve(ctx context.Context, hangup <-chan os.Signal, path string, read loaded, stderr io.Writer) (err error) {
	signal.Ignore(syscall.SIGPIPE) // or the daemon ends when nobody reads its log
	cfg := read.cfg
	n := &node{path: path, cfg: cfg, hangup: hangup}
	n.registry, n.reloaded = newRegistry()
	if file, ok := stderr.(*os.File); ok {
		w := newLogWriter(file, cfg.Log, n.registry)
		go w.run()
		defer func() { _ = w.Close() }() // nobody is left to be told
		stderr = w
	}
	n.log, n.level = newLogger(stderr, cfg.Log)
	n.notifier = newNotifier(n.log)
	n.takeNote(read)
	if n.store, err = openStore(ctx, cfg.Store, n.log, n.registry); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.store.Close()) }()
	if n.knox, err = openKnox(ctx, cfg.Knox, n.log, n.registry); err != nil {
		return err
	}
	if n.knox != nil {
		defer func() { err = errors.Join(err, n.knox.Close()) }()
	}
	if err := n.assemble(ctx); err != nil {
		return err
	}
	if n.redis != nil {
		defer n.redis.Close()
	}
	if err := n.listen(ctx); err != nil {
		return errors.Join(err, n.hangUp())
	}
	n.warnOfPlaces()
	return n.run(ctx)
}

// assemble makes the parts that judge and manage.
func (n *node) assemble(ctx context.Context) error {
	records, tier, err := n.openCache(ctx)
	if err != nil {
		return err
	}
	n.uses = manage.NewUses(n.store, n.log)
	cfg := verify.Config{
		Used: n.uses.Note, Source: n.store, Cache: records, CacheTier: tier,
		Settings: settings(n.cfg), Logger: n.log, Registerer: n.registry, Now: time.Now,
		KnoxPrefix: n.cfg.Knox.Prefix,
	}
	if s, ok := n.store.(shared); ok {
		cfg.Now, cfg.Heard, cfg.Since, cfg.Proved = s.Now, s.Heard, s.Since, s.Proved
	}
	if n.knox != nil {
		cfg.Knox, cfg.KnoxSite = n.knox, n.knox.Site()
	}
	if n.verifier, err = verify.New(cfg); err != nil {
		return err
	}
	var rotate func(context.Context, token.Event) error
	if n.redis != nil {
		rotate = n.rotateKey
	}
	n.manager = manage.New(manage.Config{
		Store: n.store, Forget: n.forget, Rotate: rotate,
		Limits: limits(n.cfg), KnoxPrefix: n.cfg.Knox.Prefix, Logger: n.log, Registerer: n.registry, Now: cfg.Now,
	})
	n.registerDependencies()
	return nil
}

func settings(cfg config.Config) verify.Settings {
	return verify.Settings{
		TTL: cfg.Cache.TTL, Stale: cfg.Cache.Stale, MaxExpiry: cfg.Tokens.MaxExpiry, Refresh: cfg.Knox.Refresh,
		Names: names(cfg.Names),
	}
}

func limits(cfg config.Config) manage.Limits {
	return manage.Limits{
		DefaultExpiry: cfg.Tokens.DefaultExpiry, MaxExpiry: cfg.Tokens.MaxExpiry, MaxPerUser: cfg.Tokens.MaxPerUser,
		Names: names(cfg.Names),
	}
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
			if listener, err = socket.Listen(ctx, s.path, peers); err != nil {
				return fmt.Errorf("[%s] socket: %w", s.name, err)
			}
		}
		*s.guard = socket.NewGuard(listener, peers, n.log, rejections)
		n.letIn(*s.guard, s.name, peers)
	}
	return nil
}

// sodarEndpoint is what the log calls it.
const sodarEndpoint = "SODAR's endpoint"

// addressRetry is how often an address is tried that cannot be had.
const addressRetry = 3 * time.Second

// onNetwork is what is served on an address of [http].
type onNetwork struct {
	what, key, address string
	handler            http.Handler
	connections        int  // how many may be open
	once               bool // whether each is for one request: or a few who keep theirs would keep all others out
	drain              time.Duration
}

// serveNetwork serves it as soon as the address can be had. It may be somebody else's, who needs
// no right to take it, or not there yet: logins by the socket don't wait for it.
func (n *node) serveNetwork(ctx context.Context, s onNetwork) error {
	seldom := rate.Sometimes{First: 1, Interval: time.Minute}
	for {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
		if err == nil {
			n.unserved.Delete(s.what)
			n.log.Info("an address of [http] is served", "what", s.what, "address", s.address)
			// Anybody on the machine can connect: let them not use up the
			// descriptors that logins need.
			return n.serveHTTP(ctx, netutil.LimitListener(listener, s.connections), s.handler, s.drain, nil, s.once)
		}
		if ctx.Err() == nil {
			n.unserved.Store(s.what, err)
			seldom.Do(func() {
				n.log.Error("an address of [http] is not served until it can be had; choose another, or \"\" for none", "what", s.what, "key", s.key, "err", err)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(addressRetry):
		}
	}
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

const nobodyMayAsk = "nobody may ask: every peer is left out"

func (n *node) resolve(section string, names []string) socket.Peers {
	peers, leftOut := socket.ResolvePeers(names)
	if len(leftOut) > 0 {
		n.log.Warn("peers are left out; reload (SIGHUP) once they are known", "section", section, "peers", strings.Join(leftOut, ", "))
	}
	if peers.Only() {
		n.log.Error(nobodyMayAsk, "section", section)
	}
	return peers
}

// run serves until ctx ends or a server breaks.
func (n *node) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	n.ends = ctx.Done()
	group.Go(func() error { return n.server.Serve(ctx, n.auth) })
	admin := http.NewServeMux()
	admin.Handle("/api/", web.NewAPI(web.Config{Manager: n.manager, Version: version.Version, Logger: n.log}))
	admin.Handle("/", n.health()) // where strangers can't crowd admins out
	group.Go(func() error {
		return n.serveHTTP(ctx, n.admin, stillPeers(n.admin, admin), drainTimeout, withPeer, false)
	})
	if n.cfg.HTTP.Metrics != "" {
		group.Go(func() error {
			return n.serveNetwork(ctx, onNetwork{"metrics", "metrics", n.cfg.HTTP.Metrics, n.health(), maxMetricsConnections, false, metricsDrainTimeout})
		})
	}
	if n.cfg.SODAR.Endpoint {
		group.Go(func() error {
			return n.serveNetwork(ctx, onNetwork{sodarEndpoint, "listen", n.cfg.HTTP.Listen, web.NewSODAR(n.verifier.Check), maxConnections, true, drainTimeout})
		})
	}
	if n.knox != nil {
		group.Go(func() error { n.knox.Run(ctx); return nil })
		group.Go(func() error { n.verifier.Run(ctx); return nil })
		group.Go(func() error { lookAfter(ctx, n.pingKnox); return nil })
	}
	group.Go(func() error { n.uses.Run(ctx); return nil })
	group.Go(func() error { return n.reloadOnHangup(ctx) })
	group.Go(func() error { lookAfter(ctx, n.ping); return nil })
	if s, ok := n.store.(shared); ok {
		var keys postgres.TakeKeys // there are none where nothing is shared
		if n.redis != nil {
			keys = n.takeKeys
		}
		group.Go(func() error { s.Watch(ctx, n.heard, keys); return nil })
	}
	if n.redis != nil {
		group.Go(func() error { n.redis.Run(ctx); return nil })
	}
	group.Go(func() error {
		<-ctx.Done()
		n.log.Info("tokend is told to end, or has to: what is under way is waited for")
		n.notifier.tell(daemon.SdNotifyStopping)
		return nil
	})
	n.log.Info("tokend serves", "version", version.Version, "pid", os.Getpid(), "config", n.path,
		"auth", n.cfg.Auth.Socket, "admin", n.cfg.Admin.Socket, "store", n.cfg.Store.URL, "cache", n.cfg.Cache.URL)
	n.notifier.tell(daemon.SdNotifyReady)
	err := group.Wait()
	if err != nil {
		return err // the last that is said
	}
	n.log.Info("tokend ends")
	return nil
}
