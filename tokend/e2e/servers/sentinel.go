package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisSentinel is a primary, two replicas that follow it, and three sentinels, of which two
// make one of the replicas the primary when that one is gone for half a second.
type RedisSentinel struct {
	servers   []*Redis
	sentinels []*Redis
	password  string // the sentinels'
	tls       bool
	user      string // who the sentinels are at the servers; empty: the default one
	secret    string // that user's password
}

// StartRedisSentinel starts them. The settings are those of all servers, whatever
// starts them.
func StartRedisSentinel(settings ...string) (*RedisSentinel, error) {
	return StartRedisSentinelWithPassword("", settings...)
}

// StartRedisSentinelWithPassword starts them with sentinels that ask everybody for a
// password, which need not be that of the servers; empty: for none.
func StartRedisSentinelWithPassword(password string, settings ...string) (*RedisSentinel, error) {
	return (&RedisSentinel{password: password}).start(settings)
}

// StartRedisSentinelWithTLS starts them so that all are reached by TLS alone.
func StartRedisSentinelWithTLS(settings ...string) (*RedisSentinel, error) {
	return (&RedisSentinel{tls: true}).start(settings)
}

// StartRedisSentinelAs starts them with sentinels that log in at the servers as that user.
func StartRedisSentinelAs(user, password string, settings ...string) (*RedisSentinel, error) {
	return (&RedisSentinel{user: user, secret: password}).start(settings)
}

func (s *RedisSentinel) start(settings []string) (*RedisSentinel, error) {
	if err := s.begin(settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis with sentinels: %w", err), s.Stop())
	}
	return s, nil
}

func (s *RedisSentinel) begin(settings []string) error {
	// A replica waits no five seconds for others to come.
	settings = append([]string{"repl-diskless-sync-delay 0"}, settings...)
	primary, err := (&Redis{tls: s.tls, own: settings}).begin(nil)
	if err != nil {
		return err
	}
	s.servers = append(s.servers, primary)
	for range 2 {
		replica, err := (&Redis{tls: s.tls, like: primary, own: append([]string{"replicaof 127.0.0.1 " + primary.port}, settings...)}).begin(nil)
		if err != nil {
			return err
		}
		s.servers = append(s.servers, replica)
		if err := replica.process.await(replica.inSync); err != nil {
			return err
		}
	}

	watch := []string{
		"sentinel monitor " + s.Name() + " 127.0.0.1 " + primary.port + " 2",
		"sentinel down-after-milliseconds " + s.Name() + " 500",
		"sentinel failover-timeout " + s.Name() + " 2000",
	}
	switch {
	case s.user != "":
		watch = append(watch, "sentinel auth-user "+s.Name()+" "+s.user, "sentinel auth-pass "+s.Name()+" "+s.secret)
	case primary.password != "":
		watch = append(watch, "sentinel auth-pass "+s.Name()+" "+primary.password)
	}
	if s.password != "" {
		watch = append(watch, "requirepass "+s.password, "sentinel sentinel-pass "+s.password)
	}
	for range 3 {
		sentinel, err := (&Redis{sentinel: true, tls: s.tls, like: primary, own: watch}).begin(nil)
		if err != nil {
			return err
		}
		s.sentinels = append(s.sentinels, sentinel)
		// Or they hear of each other every two seconds only, and of a new primary every ten.
		if _, err := sentinel.Exec(context.Background(), "SENTINEL", "DEBUG", "PUBLISH-PERIOD", 100, "INFO-PERIOD", 500); err != nil {
			return err
		}
	}
	for _, sentinel := range s.sentinels {
		if err := sentinel.process.await(s.known(sentinel)); err != nil {
			return err
		}
	}
	return nil
}

// inSync asks a replica whether it has what its primary has.
func (r *Redis) inSync(ctx context.Context) error {
	info, err := r.Exec(ctx, "INFO", "replication")
	if err == nil && !strings.Contains(fmt.Sprint(info), "master_link_status:up") {
		err = errors.New("the replica is not in sync")
	}
	return err
}

// known asks a sentinel whether it knows all others.
func (s *RedisSentinel) known(sentinel *Redis) func(context.Context) error {
	return func(ctx context.Context) error {
		client := redis.NewSentinelClient(sentinel.options())
		defer client.Close()
		primary, err := client.Master(ctx, s.Name()).Result()
		if err != nil {
			return err
		}
		replicas, err := client.Replicas(ctx, s.Name()).Result()
		if err != nil {
			return err
		}
		ready := 0
		for _, replica := range replicas {
			if replica["flags"] == "slave" && replica["master-link-status"] == "ok" {
				ready++
			}
		}
		if primary["flags"] != "master" || primary["num-other-sentinels"] != "2" || ready != 2 {
			return fmt.Errorf("the sentinel does not know all others: %v, %v", primary, replicas)
		}
		return nil
	}
}

// Certificate is the file with the one that all show, with TLS.
func (s *RedisSentinel) Certificate() string { return s.servers[0].Certificate() }

// Name is what the sentinels call the primary, whichever it is.
func (s *RedisSentinel) Name() string { return "tokend" }

// Sentinels are those that watch the servers.
func (s *RedisSentinel) Sentinels() []*Redis { return s.sentinels }

// Addrs are where the sentinels listen.
func (s *RedisSentinel) Addrs() []string { return addrs(s.sentinels) }

func addrs(servers []*Redis) []string {
	var all []string
	for _, r := range servers {
		all = append(all, r.Addr())
	}
	return all
}

// Primary is the server that the sentinels name now. It is an error while they name
// different ones.
func (s *RedisSentinel) Primary(ctx context.Context) (*Redis, error) {
	named := map[string]bool{}
	for _, sentinel := range s.sentinels {
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		client := redis.NewSentinelClient(sentinel.options())
		addr, err := client.GetMasterAddrByName(asking, s.Name()).Result()
		cancel()
		if err := errors.Join(err, client.Close()); err != nil {
			return nil, fmt.Errorf("ask the sentinel %s: %w", sentinel.Addr(), err)
		}
		named[net.JoinHostPort(addr[0], addr[1])] = true
	}
	for _, r := range s.servers {
		if named[r.Addr()] && len(named) == 1 {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the sentinels name %v", named)
}

// Failover has a replica take the primary's place, which goes on as a replica, and returns it
// when all sentinels name it. Sentinels that are to hurry may need several tries to agree on one.
func (s *RedisSentinel) Failover(ctx context.Context) (*Redis, error) {
	old, err := s.Primary(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var last error // of the sentinel that was told to
	for asked := (time.Time{}); ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(asked) > 5*time.Second { // one that takes long is given up
			asked = time.Now()
			_, last = s.sentinels[0].Exec(ctx, "SENTINEL", "FAILOVER", s.Name())
		}
		if now, err := s.Primary(ctx); err == nil && now != old {
			return now, nil
		}
	}
	return nil, fmt.Errorf("no replica has become the primary: %w", errors.Join(ctx.Err(), last))
}

// Stop ends all of them and removes what they had.
func (s *RedisSentinel) Stop() error { return stopAll(slices.Concat(s.sentinels, s.servers)) }

func stopAll(servers []*Redis) error {
	var all error
	for _, r := range servers {
		all = errors.Join(all, r.Stop())
	}
	return all
}
