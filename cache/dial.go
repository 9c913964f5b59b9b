package cache

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"syscall"
	"time"
)

// dialer connects to servers that may say what they like, with TLS if there is a
// configuration for it, which is asked for anew each time.
func dialer(config func() (*tls.Config, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: probeTimeout}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if config == nil {
			conn, err := plain.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &limited{Conn: conn, under: conn}, nil
		}
		now, err := config()
		if err != nil {
			return nil, err
		}
		secure := &tls.Dialer{NetDialer: plain, Config: now}
		conn, err := secure.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l := &limited{Conn: conn, under: conn.(*tls.Conn).NetConn()}
		if err := l.settle(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return l, nil
	}
}

const (
	// longest is more bytes than any answer has, with what the client needs for each of
	// its values.
	longest   = 1 << 20
	valueSize = 16
	// deepest is deeper than arrays of arrays are nested in any.
	deepest = 16
)

var errOdd = errors.New("the server's answer is longer than any that Redis has for tokend; is it one?")

// limited is a connection that ends when the server announces more than it can have to
// say: the client would make room for it, and a daemon that has none ends. It follows
// Redis' protocol (RESP) as far as is needed for that.
type limited struct {
	net.Conn
	under net.Conn // the same, without TLS
	rest  int      // bytes of a value that are to come
	line  []byte   // what there is of a line
	open  []int    // how many values are to come in each of the arrays that have begun
	size  int      // of the answer, as far as it was announced
	// current reports whether this is still the server to ask. Nil: it is.
	current func() bool
}

// settle waits for an answer, whichever it is: "NOAUTH" will do. What TLS itself says behind
// its handshake (tickets) has been read then.
func (l *limited) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Conn.SetDeadline(time.Now()) })()
	if _, err := l.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
		return err
	}
	_, err := bufio.NewReader(l).ReadSlice('\n')
	return err
}

// SetDeadline is net.Conn's, but for none. The client sets none before it looks what is there
// to be read, and of that the rest may never come.
func (l *limited) SetDeadline(t time.Time) error {
	if t.IsZero() {
		t = time.Now().Add(probeTimeout)
	}
	return l.Conn.SetDeadline(t)
}

// SyscallConn implements syscall.Conn: the client looks there, before it asks, whether the
// server has hung up, or another has taken its place. With TLS, too, nothing is to be read
// then: with each answer, all that came before it was read, and a server says nothing unasked
// but goodbye.
func (l *limited) SyscallConn() (syscall.RawConn, error) {
	if l.current != nil && !l.current() {
		return nil, errNotPrimary
	}
	conn, ok := l.under.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return conn.SyscallConn()
}

// Read is net.Conn's.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if l.follow(p[:n]) != nil {
		return 0, errOdd
	}
	return n, err
}

func (l *limited) follow(p []byte) error {
	for len(p) > 0 {
		if l.rest > 0 {
			n := min(l.rest, len(p))
			l.rest, p = l.rest-n, p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n') + 1
		if end == 0 {
			end = len(p)
		}
		l.line = append(l.line, p[:end]...)
		p = p[end:]
		if len(l.line) > longest {
			return errOdd
		}
		if l.line[len(l.line)-1] == '\n' {
			if err := l.header(); err != nil {
				return err
			}
			l.line = l.line[:0]
		}
	}
	return nil
}

// header looks at a line, which may announce something, in both versions of the protocol.
// Attributes, which would come before an answer, Redis has for nothing; the client's stack
// grows with each of them. Nor has it numbers of any length, which take the client seconds to
// read.
func (l *limited) header() error {
	l.size += len(l.line)
	kind := l.line[0]
	switch kind {
	case '+', '-', ':', '_', '#', ',': // a value of one line
		return l.value()
	}
	size, err := strconv.Atoi(string(bytes.TrimSpace(l.line[1:])))
	if err != nil || size > longest {
		return errOdd
	}
	switch kind {
	case '$', '=', '!': // so many bytes
		if size >= 0 {
			l.size += size
			l.rest = size + len("\r\n")
		}
		return l.value()
	case '%': // so many pairs
		return l.array(2 * size)
	case '*', '~', '>': // so many values
		return l.array(size)
	}
	return errOdd
}

// array notes that one of so many values has begun.
func (l *limited) array(values int) error {
	if values <= 0 { // it is whole already
		return l.value()
	}
	l.size += values * valueSize
	l.open = append(l.open, values)
	if l.size > longest || len(l.open) > deepest {
		return errOdd
	}
	return nil
}

// value notes that one has come, which may be the last of its array, and so on.
func (l *limited) value() error {
	if l.size > longest {
		return errOdd
	}
	for last := len(l.open) - 1; last >= 0; last-- {
		if l.open[last]--; l.open[last] > 0 {
			return nil
		}
		l.open = l.open[:last]
	}
	l.size = 0
	return nil
}
