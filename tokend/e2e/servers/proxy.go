package servers

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Proxy stands before a server and is the network's trouble. It may be used by several
// goroutines at once.
type Proxy struct {
	network, target string
	listener        net.Listener
	running         sync.WaitGroup

	// mu is held for reading while something is passed on, so that nothing is when Hang or
	// Cut have returned.
	mu      sync.RWMutex
	refuses bool
	ended   bool
	passes  chan struct{} // closed while it does
	delay   func(fromClient bool, chunk []byte) time.Duration
	links   map[*link]bool
}

// StartProxy starts one on a free port of 127.0.0.1, before what listens at the target,
// whose network is "tcp" or "unix".
func StartProxy(network, target string) (*Proxy, error) {
	p := &Proxy{network: network, target: target, passes: make(chan struct{}), links: map[*link]bool{}}
	close(p.passes)
	err := onFreePort(func(port string) (err error) {
		p.listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start a proxy: %w", err)
	}
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections, with what was held back of them, and new ones at once.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = true
	for l := range p.links {
		l.close()
	}
}

// Hang holds back what comes from either side of all connections, which stay. New ones are
// taken, and get to the target with Heal.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = false
	if p.passing() {
		p.passes = make(chan struct{})
	}
}

// Lead has new connections get to another target, of the same network.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Lose has all that is sent by the connections that there are get lost, also their end. New ones pass.
func (p *Proxy) Lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.lost.Store(true)
	}
}

// Heal ends Cut and Hang: what was held back is passed on, and what comes. Delay stays.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = false
	if !p.passing() {
		close(p.passes)
	}
}

// Delay has each chunk that comes held back for as long as the function says, and what
// follows it in that direction of that connection, which includes the end. It is called by
// several goroutines at once and must not change the chunk. Nil ends it for what comes.
func (p *Proxy) Delay(by func(fromClient bool, chunk []byte) time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = by
}

// Close ends it with all connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as of too many open files
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.mu.Lock()
		if p.refuses || p.ended {
			client.Close()
		} else {
			l := &link{proxy: p, client: client, closed: make(chan struct{})}
			p.links[l] = true
			p.running.Go(l.run)
		}
		p.mu.Unlock()
	}
}

// passing wants mu to be held.
func (p *Proxy) passing() bool {
	select {
	case <-p.passes:
		return true
	default:
		return false
	}
}

func (p *Proxy) gate() <-chan struct{} {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.passes
}

func (p *Proxy) due(fromClient bool, chunk []byte) time.Time {
	p.mu.RLock()
	delay := p.delay
	p.mu.RUnlock()
	if delay == nil {
		return time.Time{}
	}
	return time.Now().Add(delay(fromClient, chunk))
}
