package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// Run turns the cache on when the server answers, and again whenever it was away. It
// returns when ctx ends.
func (r *Redis) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	if r.sentinels != nil {
		watching.Go(func() { r.sentinels.watch(ctx, r.log) })
		r.sentinels.unasked.Wait()
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		if r.breaker.err() == nil {
			select {
			case <-ctx.Done():
			case <-r.breaker.tripped:
			case <-look.C:
				r.look(ctx)
			}
			continue
		}
		select {
		case <-r.breaker.tripped: // this is the try
		default:
		}
		select {
		case <-ctx.Done():
		case <-r.breaker.tripped: // there is another server to try
		case <-time.After(r.breaker.next()):
			if err := r.recover(ctx); err != nil && !errors.Is(err, errMeanwhile) && ctx.Err() == nil {
				r.breaker.still(ctx, explain(err))
			}
		}
	}
}

// look finds out whether the server is still there, and has every tombstone. It may have
// forgotten them, or another may have taken its place: then a connection was made.
func (r *Redis) look(ctx context.Context) {
	r.graves.sweep()
	err := r.probe(ctx)
	if err == nil {
		select {
		case <-r.newConn:
			names := r.graves.all()
			within, cancel := context.WithTimeout(ctx, patience(probeTimeout, len(names)))
			defer cancel()
			err = r.write(within, names)
		default:
		}
	}
	if err != nil && !errors.Is(err, errMeanwhile) && ctx.Err() == nil {
		r.breaker.turnOff(ctx, err)
	}
}

// recover asks all servers, and writes every tombstone there is before the cache is used
// again: what they had of them may be gone.
func (r *Redis) recover(ctx context.Context) error {
	off := r.breaker.offAt.Load()
	if err := r.probe(ctx); err != nil {
		return err
	}
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	if err := r.inTime(ctx); err != nil {
		return err
	}
	names := r.graves.all()
	ctx, cancel := context.WithTimeout(ctx, patience(10*probeTimeout, len(names)))
	defer cancel()
	for {
		if err := r.write(ctx, names); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(r.switched.Load().Add(handOver))):
		}
		still := func() bool { return r.breaker.offAt.Load() == off } // if not, what was written may be elsewhere
		if r.breaker.turnOn(ctx, func() bool { return r.graves.pending() == 0 && still() }) {
			return nil
		}
		if !still() {
			return errMeanwhile
		}
		names = r.graves.unwritten()
	}
}

// probeName is of what is kept in order to see that something can be.
const probeName = prefix + "probe"

// probe returns nil if all servers answer, and take something to keep.
func (r *Redis) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var asked servers
	if err := r.everywhere(ctx, func(ctx context.Context, c *redis.Client) error {
		asked.add(c.Options().Addr)
		return c.Ping(ctx).Err()
	}); err != nil {
		return err
	}
	before := r.primaries
	if r.primaries = asked.names; before != nil && !slices.Equal(before, asked.names) {
		r.change(ctx, errNotPrimary)
		return errMeanwhile
	}
	if err := r.client.Get(ctx, probeName).Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, wrongType) {
		return err
	}
	there, err := r.client.Eval(ctx, makeClaim, []string{probeName}, "", time.Second.Milliseconds()).Text()
	if err == nil {
		err = fill.Run(ctx, r.client, []string{probeName}, there, "", time.Second.Milliseconds()).Err()
	}
	if isFull(err) { // what is in it can be had
		r.noteFull(ctx)
		return nil
	}
	if err == nil {
		r.noteRoom(ctx)
	}
	return err
}

// everywhere asks the server, or each that takes part of a Cluster. Where there are several,
// an error names the one.
func (r *Redis) everywhere(ctx context.Context, ask func(context.Context, *redis.Client) error) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			return at(c.Options().Addr, ask(ctx, c))
		})
	}
	one := r.client.(*redis.Client)
	if r.sentinels == nil {
		return ask(ctx, one)
	}
	known := r.sentinels.known.Load() // it may be another one when there is an answer
	err := ask(ctx, one)
	if known == nil {
		return err
	}
	return at(known.primary, err)
}

// at has the error say at which server it was. One of a connection that could not be made says
// so itself, and may be of the server that was asked before.
func at(server string, err error) error {
	dial, is := errors.AsType[*net.OpError](err)
	if err == nil || server == "" || strings.Contains(err.Error(), server) || is && dial.Op == "dial" && dial.Addr != nil {
		return err
	}
	return fmt.Errorf("%s: %w", server, err)
}

// inTime returns nil if all answer in a login's time what logins ask: else these would soon turn the cache
// off again.
func (r *Redis) inTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return r.everywhere(ctx, func(ctx context.Context, c *redis.Client) error {
		within, cancel := context.WithTimeout(ctx, getTimeout)
		defer cancel()
		switch err := c.Get(within, probeName).Err(); {
		case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, wrongType), redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"): // where another one has it
			return nil
		case isTimeout(err) && ctx.Err() == nil:
			return errLate
		default:
			return err
		}
	})
}

// warmUp makes connections, and keeps each until all are there.
func (r *Redis) warmUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return r.everywhere(ctx, func(ctx context.Context, c *redis.Client) error {
		group, ctx := errgroup.WithContext(ctx)
		for range warm {
			conn := c.Conn()
			defer func() { _ = conn.Close() }() // back into the pool
			group.Go(func() error { return conn.Ping(ctx).Err() })
		}
		return group.Wait()
	})
}
