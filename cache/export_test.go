package cache

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Breaker is one that is off.
type Breaker struct{ b *breaker }

func NewBreaker() Breaker { return NewBreakerThatLogs(slog.DiscardHandler) }

func NewBreakerThatLogs(to slog.Handler) Breaker {
	return Breaker{newBreaker(slog.New(to), errNotTried)}
}

func (b Breaker) Still(err error) { b.b.still(context.Background(), err) }

func (b Breaker) Next() time.Duration { return b.b.next() }

func (b Breaker) TurnOn() { b.b.turnOn(context.Background(), func() bool { return true }) }

func (b Breaker) On() bool { return b.b.err() == nil }

func (b Breaker) Err() error { return b.b.err() }

func (b Breaker) Worked() { b.b.worked() }

func (b Breaker) Failed(err error) { b.b.failed(context.Background(), err) }

func (b Breaker) TurnOff(err error) { b.b.turnOff(context.Background(), err) }

// Wait waits for the fills that are under way.
func (r *Redis) Wait() {
	for range cap(r.fills) {
		r.fills <- struct{}{}
	}
	for range cap(r.fills) {
		<-r.fills
	}
}

// RecoverWhile recovers as behind a change of the primary, and there is another one in the middle of it.
func (r *Redis) RecoverWhile(ctx context.Context, another error) error {
	now := time.Now()
	r.switched.Store(&now)
	defer time.AfterFunc(handOver/2, func() { r.breaker.turnOff(ctx, another) }).Stop()
	return r.recover(ctx)
}

// Dial makes a connection as the client does.
func (a Address) Dial(ctx context.Context, server string) (net.Conn, error) {
	return dialer(a.tls)(ctx, "tcp", server)
}

// Ready is how many connections are kept ready.
func (r *Redis) Ready() int { return int(r.client.PoolStats().IdleConns) }

// Spoilt uses all of them at once, and returns how many could not be used since the start.
func (r *Redis) Spoilt(ctx context.Context) int {
	client := r.client.(*redis.Client)
	for range r.Ready() {
		conn := client.Conn()
		defer func() { _ = conn.Close() }()
		_ = conn.Ping(ctx).Err()
	}
	return int(client.PoolStats().StaleConns)
}

// Explain puts before an error what can be done about it.
var Explain = explain

// NoteUseless notes of a Sentinel what it said: nil, or why it was of no use.
func NoteUseless(log *slog.Logger) func(error) {
	var u useless
	return func(err error) { u.note(context.Background(), log, "sentinel:26379", err) }
}
