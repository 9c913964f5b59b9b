package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// goal is how much of a bare client's rate tokend is to reach.
const goal = 0.9

// heat has the records of all warm tokens in Redis.
func (f *fleet) heat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		kept, err := f.redis.Exec(ctx, "DBSIZE")
		if err != nil {
			return err
		}
		have := int(kept.(int64))
		if have >= len(f.warm) {
			return nil
		}
		// From where the last one came to, but in the end all: a record that Redis is too slow to take is left out.
		rest := slices.Concat(f.warm[have:], f.warm[:have])
		if _, err := hammer(ctx, f.load, f.sockets(1), 8, time.Second, rest, "yes"); err != nil {
			return err
		}
	}
}

// checks is the way of logins over these sockets.
func (f *fleet) checks(name string, sockets []string, atOnce int) way {
	return way{name, func(ctx context.Context) (float64, error) {
		r, err := hammer(ctx, f.load, sockets, atOnce, f.span, f.warm, "yes")
		return r.perSecond(), err
	}}
}

// costing is a way that is gone through the first daemon, and notes in microseconds what
// each check costs it of a processor.
func (f *fleet) costing(w way, costs *series) way {
	return way{w.name, func(ctx context.Context) (float64, error) {
		before, err := f.daemons[0].Used()
		if err != nil {
			return 0, err
		}
		rate, err := w.measure(ctx)
		if err != nil {
			return 0, err
		}
		after, err := f.daemons[0].Used()
		*costs = append(*costs, time.Duration(float64(after-before)/(rate*f.span.Seconds())))
		return rate, err
	}}
}

// againstRedis compares checks with questions to Redis for the same values.
func (f *fleet) againstRedis(ctx context.Context) (err error) {
	client := redis.NewClient(&redis.Options{Addr: f.redis.Addr(), PoolSize: 64})
	defer client.Close()
	if err := f.heat(ctx); err != nil {
		return err
	}
	names, err := client.Keys(ctx, "tokend:*").Result()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "tokend:probe" }) // it ends soon
	least, stop, err := f.leastServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	w := newTable("\nrecords warm in Redis (%d rounds of %s, in turns)\tat once\tper second\tratio (goal: %.1f)\tdaemon's processor time of each", f.rounds, f.span, goal)
	for _, atOnce := range []int{1, 8, 64} {
		var costs series
		got, err := turns(ctx, f.rounds, fmt.Sprintf("redis, %d at once", atOnce), []way{
			{"GET, bare go-redis", func(ctx context.Context) (float64, error) {
				return repeat(ctx, atOnce, f.span, func(ctx context.Context, n int) error {
					return client.Get(ctx, names[n%len(names)]).Err()
				})
			}},
			f.costing(f.checks("checks", f.sockets(1), atOnce), &costs),
			f.checks("a server that only answers", []string{least}, atOnce),
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "GET, bare go-redis in one process\t%d\t%.0f\t\t\n", atOnce, got[0])
		fmt.Fprintf(w, "a check over the socket\t%d\t%.0f\t%.2f\t%s\n", atOnce, got[1], got[1]/got[0], micro(costs.quantile(0.5)))
		fmt.Fprintf(w, "the exchange alone, with a server in C that says OK to all\t%d\t%.0f\t%.2f\t\n", atOnce, got[2], got[2]/got[0])
	}
	return w.Flush()
}

// repeat has so many goroutines do something for the given time, each time with another
// number, and returns how often that was done in a second.
func repeat(ctx context.Context, atOnce int, span time.Duration, do func(ctx context.Context, n int) error) (float64, error) {
	var all sync.WaitGroup
	var next atomic.Int64
	var over atomic.Bool
	failures := make([]error, atOnce)
	begun := time.Now()
	for i := range atOnce {
		all.Go(func() {
			for failures[i] == nil && !over.Load() {
				if failures[i] = do(ctx, int(next.Add(1))); failures[i] != nil {
					return
				}
			}
		})
	}
	stop := time.AfterFunc(span, func() { over.Store(true) })
	defer stop.Stop()
	all.Wait()
	return float64(next.Load()) / time.Since(begun).Seconds(), errors.Join(failures...)
}
