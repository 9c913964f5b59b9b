package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// askSentinelsEvery is how often they are asked for the primary. They tell each other of
// another one every two seconds only.
const askSentinelsEvery = 100 * time.Millisecond

// rememberEpoch is how long less than what one has said does not count: the others hear of it
// later, if it was right.
const rememberEpoch = 10 * time.Second

var (
	errNoPrimary  = errors.New("too few Sentinels say which server is the primary")
	errNotPrimary = errors.New("another server is the primary now")
)

// sentinels know which server is the primary. The library's own client for them listens to
// what they say in goroutines that end the daemon where it has not the shape that they expect,
// and believes the first that answers.
type sentinels struct {
	set     string
	all     []*sentinel
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	changed func(ctx context.Context, why error) // is called when the primary is another, or is known at last
	unasked sync.WaitGroup

	learning sync.Mutex
	known    atomic.Pointer[named] // nil: nothing yet
}

type sentinel struct {
	address string
	client  *redis.SentinelClient
	said    atomic.Pointer[time.Time] // when it last named a primary; nil: never
	why     atomic.Pointer[error]     // it did not; nil: it did
	once    sync.Once                 // it was asked
}

// newSentinels are those of the options, whose client is to use connect for its connections.
func newSentinels(a Address, o *redis.UniversalOptions) *sentinels {
	s := &sentinels{set: a.Sentinel, dial: o.Dialer}
	for _, address := range o.Addrs {
		options := &redis.Options{
			Addr: address, ClientName: o.ClientName, DisableIdentity: true, Dialer: o.Dialer, Protocol: o.Protocol,
			ContextTimeoutEnabled: true, DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
			MaxRetries: o.MaxRetries, DialerRetries: o.DialerRetries,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		}
		if a.SentinelPassword != nil {
			options.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
				password, err = a.SentinelPassword()
				return "", password, err
			}
		}
		s.all = append(s.all, &sentinel{address: address, client: redis.NewSentinelClient(options)})
	}
	s.unasked.Add(len(s.all))
	return s
}

// connect makes a connection to the primary, which is used as long as it is that. A login
// waits for no Sentinel: watch has asked a moment ago.
func (s *sentinels) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	known := s.known.Load()
	if known == nil {
		return nil, s.silence()
	}
	conn, err := s.dial(ctx, network, known.primary)
	if err != nil {
		return nil, err
	}
	conn.(*limited).current = func() bool { return s.known.Load().primary == known.primary }
	return conn, nil
}

// silent reports whether fewer than half of them have named a primary lately: another one may
// be that by now.
func (s *sentinels) silent() bool {
	n := 0
	for _, one := range s.all {
		if said := one.said.Load(); said != nil && time.Since(*said) < uselessFor {
			n++
		}
	}
	return 2*n < len(s.all)
}

// silence says why too few of them say anything.
func (s *sentinels) silence() error {
	err := errNoPrimary
	for _, one := range s.all {
		if why := one.why.Load(); why != nil {
			err = fmt.Errorf("%w; %w", err, *why)
		}
	}
	return err
}

// watch asks each of them all the time, until ctx ends, so that the daemons agree. One that
// hangs keeps no other waiting. A set whose Sentinels are away keeps its primary.
func (s *sentinels) watch(ctx context.Context, log *slog.Logger) {
	var watching sync.WaitGroup
	defer watching.Wait()
	for _, one := range s.all {
		watching.Go(func() { s.watchOne(ctx, log, one) })
	}
}

func (s *sentinels) watchOne(ctx context.Context, log *slog.Logger, one *sentinel) {
	again := time.NewTicker(askSentinelsEvery)
	defer again.Stop()
	defer one.once.Do(s.unasked.Done)
	var silent useless
	for {
		said, err := s.ask(ctx, one)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			s.learn(ctx, said)
			one.said.Store(&said.when)
			one.why.Store(nil)
		} else {
			one.why.Store(&err)
		}
		one.once.Do(s.unasked.Done)
		silent.note(ctx, log, one.address, err)
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// useless is since when a Sentinel has said nothing of use, and why, as far as that was logged.
type useless struct {
	since time.Time // zero: it has
	said  causes
}

// uselessFor is how long that lasts before it counts, and is logged: one may be late now and then.
const uselessFor = time.Second

var errSilent = errors.New("a Sentinel does not say which server is the primary")

func (s *useless) note(ctx context.Context, log *slog.Logger, address string, err error) {
	if err == nil {
		if len(s.said) > 0 {
			log.InfoContext(ctx, "a Sentinel answers again", "sentinel", address)
		}
		*s = useless{}
		return
	}
	if s.since.IsZero() {
		s.since = time.Now()
	}
	err = explain(fmt.Errorf("%w: %w", errSilent, err))
	if s.said == nil {
		s.said = causes{}
	}
	if time.Since(s.since) >= uselessFor && s.said.isNew(err) {
		log.WarnContext(ctx, "a Sentinel is of no use", "sentinel", address, "err", err)
	}
}

// named is what one of them says.
type named struct {
	primary string
	epoch   int64     // the highest knows best
	when    time.Time // it was said last
}

// learn takes over what one of them says, if none knows better. Where two name different
// servers beside one epoch, all daemons take the same.
func (s *sentinels) learn(ctx context.Context, said named) {
	s.learning.Lock()
	defer s.learning.Unlock()
	known := s.known.Load()
	if known != nil && time.Since(known.when) < rememberEpoch &&
		(said.epoch < known.epoch || said.epoch == known.epoch && said.primary > known.primary) {
		return
	}
	if known != nil && known.primary == said.primary && known.epoch == said.epoch { // else another one was it meanwhile
		s.known.Store(&said)
		return
	}
	why := errNotPrimary
	if known == nil {
		why = errNotTried
	}
	s.changed(ctx, why) // before, or an answer of the new one would be believed
	s.known.Store(&said)
	s.changed(ctx, why) // what was done meanwhile, for the cache to be used again, was done to the one before
}

// ask asks one for the epoch and then for the address: while it has a replica take over, the
// address that stands beside the new epoch is still the old one.
func (s *sentinels) ask(ctx context.Context, one *sentinel) (named, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	n := named{when: time.Now()}
	var address []string
	said, err := one.client.Master(ctx, s.set).Result()
	if err == nil {
		n.epoch, err = strconv.ParseInt(said["config-epoch"], 10, 64)
	}
	if err == nil && n.epoch < 0 {
		err = errOdd
	}
	if err == nil {
		address, err = one.client.GetMasterAddrByName(ctx, s.set).Result()
	}
	if err == nil && len(address) != 2 {
		err = errOdd
	}
	if isTimeout(err) { // one cause, however it is noticed
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		return named{}, at(one.address, err)
	}
	n.primary = net.JoinHostPort(address[0], address[1])
	return n, nil
}

// close ends the connections to them.
func (s *sentinels) close() {
	for _, one := range s.all {
		_ = one.client.Close() // those that broke are closed already
	}
}
