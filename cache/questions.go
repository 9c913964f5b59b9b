package cache

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// questions are those of one kind to the server. While as many are under way as may be, what
// else is to be asked waits, and then goes with one: many logins at once would cost both
// ends much more, one by one.
type questions struct {
	client redis.UniversalClient
	// ask sends one about an entry by its name. What it returns gives the answer, once it
	// is there.
	ask func(ctx context.Context, c redis.Cmdable, name string) func() ([]byte, error)

	mu       sync.Mutex
	underWay int
	waiting  []*question
}

// atOnce is how many are under way at most. So many logins are asked for without a wait.
const atOnce = 2

type question struct {
	name     string
	value    []byte
	err      error
	answered chan struct{}
}

// get asks one. It waits for getTimeout, once for those before it and once for its own
// answer.
func (q *questions) get(ctx context.Context, name string) ([]byte, error) {
	q.mu.Lock()
	if q.underWay < atOnce {
		q.underWay++
		q.mu.Unlock()
		defer q.next() //nolint:contextcheck // it is for others
		ctx, cancel := context.WithTimeout(ctx, getTimeout)
		defer cancel()
		return q.ask(ctx, q.client, name)()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*getTimeout)
	defer cancel()
	one := &question{name: name, answered: make(chan struct{})}
	q.waiting = append(q.waiting, one)
	q.mu.Unlock()
	select {
	case <-one.answered:
		return one.value, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// next asks what waits, when a question has been answered.
func (q *questions) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.underWay--
		return
	}
	go q.askAll(q.waiting)
	q.waiting = nil
}

// askAll asks many. Some of those who wait for the answers may have given up.
func (q *questions) askAll(many []*question) {
	defer q.next()
	ctx, cancel := context.WithTimeout(context.Background(), getTimeout)
	defer cancel()
	pipe := q.client.Pipeline()
	answers := make([]func() ([]byte, error), len(many))
	for i, one := range many {
		answers[i] = q.ask(ctx, pipe, one.name)
	}
	_, _ = pipe.Exec(ctx) // each answer has its error
	for i, one := range many {
		one.value, one.err = answers[i]()
		close(one.answered)
	}
}
