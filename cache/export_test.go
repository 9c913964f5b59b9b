package cache

import (
	"context"
	"log/slog"
	"time"
)

// Breaker is one that is off.
type Breaker struct{ b *breaker }

func NewBreaker() Breaker { return Breaker{newBreaker(slog.New(slog.DiscardHandler), errNotTried)} }

func (b Breaker) Next() time.Duration { return b.b.next() }

func (b Breaker) TurnOn() { b.b.turnOn(context.Background(), func() bool { return true }) }

func (b Breaker) On() bool { return b.b.err() == nil }

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
