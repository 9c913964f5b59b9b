package servers

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// link is a connection through a proxy.
type link struct {
	proxy  *Proxy
	client net.Conn
	target net.Conn // nil until it is there

	lost atomic.Bool // nothing is passed on any more, without a word

	closing sync.Once
	closed  chan struct{}
}

// run ends when both directions have.
func (l *link) run() {
	var readers sync.WaitGroup
	defer func() {
		l.proxy.mu.Lock()
		l.close()
		delete(l.proxy.links, l)
		l.proxy.mu.Unlock()
		readers.Wait()
	}()
	up, down := newQueue(), newQueue()
	readers.Go(func() { l.read(l.client, up, true) })
	if !l.connect() {
		return
	}
	readers.Go(func() { l.read(l.target, down, false) })
	var writers sync.WaitGroup
	writers.Go(func() { l.write(l.target, up) })
	writers.Go(func() { l.write(l.client, down) })
	writers.Wait()
}

// connect reaches the target as soon as the proxy passes.
func (l *link) connect() bool {
	select {
	case <-l.proxy.gate():
	case <-l.closed:
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	l.proxy.running.Go(func() {
		select {
		case <-l.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	l.proxy.mu.RLock()
	address := l.proxy.target
	l.proxy.mu.RUnlock()
	target, err := new(net.Dialer).DialContext(ctx, l.proxy.network, address)
	if err != nil {
		return false
	}
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	select {
	case <-l.closed:
		target.Close()
		return false
	default:
		l.target = target
		return true
	}
}

// close wants the proxy's mu to be held.
func (l *link) close() {
	l.closing.Do(func() {
		close(l.closed)
		l.client.Close()
		if l.target != nil {
			l.target.Close()
		}
	})
}

// read takes what comes whether it can be passed on or not, so that nothing is lost of a
// side that is gone by then.
func (l *link) read(from net.Conn, to *queue, fromClient bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			data := append([]byte(nil), buffer[:n]...)
			to.push(chunk{data: data, due: l.proxy.due(fromClient, data)})
		}
		if err != nil {
			to.push(chunk{})
			return
		}
	}
}

// write passes on what comes until its end, or until the other side takes no more.
func (l *link) write(to net.Conn, from *queue) {
	for {
		c, ok := from.pop(l.closed)
		if ok && l.lost.Load() {
			continue
		}
		if !ok || !l.wait(c.due) || !l.pass(to, c.data) || c.data == nil {
			return
		}
	}
}

func (l *link) wait(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

// pass writes the data, or the end where there is none.
func (l *link) pass(to net.Conn, data []byte) bool {
	for {
		select {
		case <-l.proxy.gate():
		case <-l.closed:
			return false
		}
		n, err := l.try(to, data)
		data = data[n:]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil || len(data) == 0 {
			return err == nil
		}
	}
}

// try does that for a short while only: Hang and Cut wait for it.
func (l *link) try(to net.Conn, data []byte) (int, error) {
	l.proxy.mu.RLock()
	defer l.proxy.mu.RUnlock()
	if !l.proxy.passing() {
		return 0, os.ErrDeadlineExceeded
	}
	if data == nil {
		return 0, to.(interface{ CloseWrite() error }).CloseWrite()
	}
	if err := to.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		return 0, err
	}
	return to.Write(data)
}

// chunk is what was read at once, or the end.
type chunk struct {
	data []byte
	due  time.Time
}

// queue keeps any number of chunks.
type queue struct {
	mu     sync.Mutex
	chunks []chunk
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(c chunk) {
	q.mu.Lock()
	q.chunks = append(q.chunks, c)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop waits for a chunk, or until nobody wants it any more.
func (q *queue) pop(closed <-chan struct{}) (chunk, bool) {
	for {
		q.mu.Lock()
		if len(q.chunks) > 0 {
			c := q.chunks[0]
			q.chunks = q.chunks[1:]
			q.mu.Unlock()
			return c, true
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-closed:
			return chunk{}, false
		}
	}
}
