package cache

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"syscall"
)

// dialer connects to servers that may say what they like, with TLS if there is a
// configuration for it.
func dialer(config *tls.Config) func(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: probeTimeout}
	if config == nil {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := plain.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &limitedTCP{limited{Conn: conn}}, nil
		}
	}
	secure := &tls.Dialer{NetDialer: plain, Config: config}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := secure.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &limited{Conn: conn}, nil
	}
}

const (
	// longest is more than any answer has, and part of one.
	longest = 1 << 20
	// deepest is deeper than arrays of arrays are nested in any.
	deepest = 16
)

var errOdd = errors.New("the server's answer is longer than any that Redis has for tokend; is it one?")

// limited is a connection that ends when the server announces more than it can have to
// say: the client would make room for it, and a daemon that has none ends. It follows
// Redis' protocol (RESP) as far as is needed for that.
type limited struct {
	net.Conn
	rest   int    // bytes of a value that are to come
	line   []byte // what there is of a line
	nested int    // arrays that have begun since the last value
}

// limitedTCP is one that the client can look at without reading, to find out whether it is
// still there.
type limitedTCP struct{ limited }

// SyscallConn implements syscall.Conn.
func (l *limitedTCP) SyscallConn() (syscall.RawConn, error) {
	conn, ok := l.Conn.(syscall.Conn)
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

// header looks at a line, which may announce something: of both versions of the protocol,
// because the client speaks the newer one to Sentinels. Attributes, which would come before
// an answer, Redis has for nothing; the client's stack grows with each of them.
func (l *limited) header() error {
	kind := l.line[0]
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(': // a value of one line
		l.nested = 0
		return nil
	}
	size, err := strconv.Atoi(string(bytes.TrimSpace(l.line[1:])))
	if err != nil || size > longest {
		return errOdd
	}
	switch kind {
	case '$', '=', '!': // so many bytes
		l.nested = 0
		if size >= 0 {
			l.rest = size + len("\r\n")
		}
		return nil
	case '*', '%', '~', '>': // so many values
		if l.nested++; size <= 0 { // it is whole already
			l.nested = 0
		}
		if l.nested <= deepest {
			return nil
		}
	}
	return errOdd
}
