package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// dialer makes connections. A server that was silent is asked whether it still is, and passed over if there is no
// answer soon, while there are connections to another one.
type dialer struct {
	mu      sync.Mutex
	servers map[string]*reached // by address
}

// reached is how a server was when it was last tried.
type reached struct {
	network string
	state   state
	since   time.Time
	asked   time.Time     // when, whether it is still silent
	answers chan struct{} // closed when it has answered that
}

type state int

const (
	unknown state = iota // nobody has waited for it in vain
	answers              // there is a connection
	silent
)

const (
	// askEach is how often a server that was silent is asked whether it still is, at most: not twice in a look-up's
	// time, which may try each address twice.
	askEach = time.Second
	// askPatience is how long the answer is waited for: a look-up has no time for more.
	askPatience = 250 * time.Millisecond
)

var errSilent = errors.New("it is silent, and is not waited for any longer while there are connections to another server")

func newDialer() *dialer { return &dialer{servers: map[string]*reached{}} }

// dial makes one that ends soon: the driver waits for 15 seconds for the server's own end of one that was
// given up, though that may never come.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.passOver(ctx, network, address) {
		return nil, errSilent
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	switch {
	case TimedOut(err):
		d.note(address, silent, begun)
	case err != nil:
		d.note(address, unknown, begun)
	}
	if err != nil {
		return nil, err
	}
	// Also one that only asks for the end of another has its time.
	return &link{Conn: conn, note: func(s state) { d.note(address, s, begun) }}, conn.SetDeadline(begun.Add(ConnectTimeout))
}

// passOver reports whether there is no use in trying the server.
func (d *dialer) passOver(ctx context.Context, network, address string) bool {
	d.mu.Lock()
	server := d.server(address)
	server.network = network
	if server.state != silent || !d.anyAnswers() {
		d.mu.Unlock()
		return false
	}
	for address, server := range d.servers { // all at once, as the time is for one
		if server.state == silent && time.Since(server.asked) > askEach {
			server.asked, server.answers = time.Now(), make(chan struct{})
			go d.ask(context.WithoutCancel(ctx), server.network, address, server.answers)
		}
	}
	answer, late := server.answers, time.NewTimer(time.Until(server.asked.Add(askPatience)))
	d.mu.Unlock()
	defer late.Stop()
	select {
	case <-answer:
		return false
	case <-late.C:
	case <-ctx.Done():
	}
	return true
}

// sslRequest is what begins a connection to PostgreSQL or to a pooler: both answer it, whoever asks.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// ask finds out whether the server still is silent.
func (d *dialer) ask(ctx context.Context, network, address string, answered chan<- struct{}) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ConnectTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err == nil {
		defer conn.Close() //nolint:errcheck // nothing was changed
		err = conn.SetDeadline(begun.Add(ConnectTimeout))
	}
	if err == nil {
		_, err = conn.Write(sslRequest)
	}
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if TimedOut(err) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if server := d.server(address); server.state == silent {
		server.state, server.since = unknown, time.Now()
	}
	close(answered)
}

// TimedOut reports whether there was no answer in time, of one server at least.
func TimedOut(err error) bool {
	if e, ok := err.(net.Error); ok && e.Timeout() || err == errSilent { //nolint:errorlint // each of those that are joined is looked at
		return true
	}
	switch e := err.(type) { //nolint:errorlint // see above
	case interface{ Unwrap() error }:
		return TimedOut(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), TimedOut)
	}
	return false
}

// note notes how the server is that was tried then. That it was silent says nothing where another try has
// found it otherwise since.
func (d *dialer) note(address string, s state, begun time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if server := d.server(address); s != silent || !server.since.After(begun) {
		server.state, server.since = s, time.Now()
	}
}

// server wants mu to be held, as anyAnswers does.
func (d *dialer) server(address string) *reached {
	if d.servers[address] == nil {
		d.servers[address] = new(reached)
	}
	return d.servers[address]
}

func (d *dialer) anyAnswers() bool {
	for _, server := range d.servers {
		if server.state == answers {
			return true
		}
	}
	return false
}
