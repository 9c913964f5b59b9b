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

// agreeWithin is how long Redis is not used after another server has become the primary: all
// daemons know it then. One that does not yet writes tombstones where the others don't look.
const agreeWithin = time.Second

// rememberEpoch is how long less than what one has said does not count: the others hear of it
// later, if it was right.
const rememberEpoch = 10 * time.Second

var (
	errNoPrimary  = errors.New("no Sentinel says which server is the primary")
	errNotPrimary = errors.New("another server is the primary now")
)

// sentinels know which server is the primary. The library's own client for them listens to
// what they say in goroutines that end the daemon where it has not the shape that they expect,
// and believes the first that answers.
type sentinels struct {
	set     string
	all     []sentinel
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	known   atomic.Pointer[named] // what they said last; nil: nothing yet
	changed func(context.Context) // is called when the primary is another
	since   atomic.Int64          // when that was, in Unix nanoseconds
}

type sentinel struct {
	address string
	client  *redis.SentinelClient
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
		s.all = append(s.all, sentinel{address, redis.NewSentinelClient(options)})
	}
	return s
}

// connect makes a connection to the primary, which is used as long as it is that. A login
// waits for no Sentinel: watch has asked a moment ago.
func (s *sentinels) connect(ctx context.Context, network, _ string) (_ net.Conn, err error) {
	var where string
	if known := s.known.Load(); known != nil {
		where = known.primary
	} else if where, err = s.ask(ctx); err != nil {
		return nil, err
	}
	conn, err := s.dial(ctx, network, where)
	if err != nil {
		return nil, err
	}
	conn.(*limited).current = func() bool { return s.known.Load().primary == where }
	return conn, nil
}

// watch asks all the time, until ctx ends, so that the daemons agree. A set whose Sentinels
// are away keeps its primary.
func (s *sentinels) watch(ctx context.Context, log *slog.Logger) {
	again := time.NewTicker(askSentinelsEvery)
	defer again.Stop()
	silent := make([]useless, len(s.all))
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		known := s.known.Load()
		answers := s.askAll(ctx)
		_, _ = s.judge(ctx, known, answers)
		for i, answer := range answers {
			if ctx.Err() == nil {
				silent[i].note(ctx, log, s.all[i].address, answer.err)
			}
		}
	}
}

// useless is since when a Sentinel has said nothing of use, and why, as far as that was logged.
type useless struct {
	since time.Time // zero: it has
	said  causes
}

// uselessFor is how long that lasts before it is logged: one may be late now and then.
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
		log.WarnContext(ctx, "a Sentinel is of no use", "err", err)
	}
}

// named is what one of them says.
type named struct {
	primary string
	epoch   int64 // the highest knows best
	when    time.Time
	err     error
}

// ask asks all for the primary.
func (s *sentinels) ask(ctx context.Context) (primary string, err error) {
	known := s.known.Load()
	return s.judge(ctx, known, s.askAll(ctx))
}

// askAll asks all at once. When one has answered, the others have as long as a record's
// look-up.
func (s *sentinels) askAll(ctx context.Context) []named {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]named, len(s.all))
	var asked sync.WaitGroup
	for i, one := range s.all {
		asked.Go(func() {
			if answers[i] = s.askOne(ctx, one); answers[i].err == nil {
				time.AfterFunc(getTimeout, cancel)
			}
		})
	}
	asked.Wait()
	return answers
}

// judge notes what the one says that knows best, unless more than was known before they were
// asked was learned meanwhile.
func (s *sentinels) judge(ctx context.Context, known *named, answers []named) (primary string, err error) {
	best := named{epoch: -1, when: time.Now()}
	err = errNoPrimary
	for _, answer := range answers { // always in the same order
		switch {
		case answer.err != nil:
			err = fmt.Errorf("%w; %w", err, answer.err)
		case answer.epoch > best.epoch, answer.epoch == best.epoch && answer.primary < best.primary: // by whatever daemon
			best.primary, best.epoch = answer.primary, answer.epoch
		}
	}
	switch {
	case best.epoch < 0:
		return "", err
	case known != nil && best.epoch < known.epoch && time.Since(known.when) < rememberEpoch:
		return known.primary, nil
	}
	if !s.known.CompareAndSwap(known, &best) {
		return s.known.Load().primary, nil
	}
	if known != nil && known.primary != best.primary {
		s.since.Store(time.Now().UnixNano())
		s.changed(ctx)
	}
	return best.primary, nil
}

// askOne asks one for the epoch and then for the address: while it has a replica take over,
// the address that stands beside the new epoch is still the old one.
func (s *sentinels) askOne(ctx context.Context, one sentinel) (n named) {
	var address []string
	said, err := one.client.Master(ctx, s.set).Result()
	if err == nil {
		n.epoch, err = strconv.ParseInt(said["config-epoch"], 10, 64)
	}
	if err == nil {
		address, err = one.client.GetMasterAddrByName(ctx, s.set).Result()
	}
	if err == nil && len(address) != 2 {
		err = errOdd
	}
	if errors.Is(err, context.Canceled) || isTimeout(err) { // or another one has answered
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		n.err = at(one.address, err)
		return n
	}
	n.primary = net.JoinHostPort(address[0], address[1])
	return n
}

// changedWithin reports whether another server became the primary so short a time ago.
func (s *sentinels) changedWithin(d time.Duration) bool {
	return time.Since(time.Unix(0, s.since.Load())) < d
}

// close ends the connections to them.
func (s *sentinels) close() {
	for _, one := range s.all {
		_ = one.client.Close() // those that broke are closed already
	}
}
