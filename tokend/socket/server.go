package socket

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"tokend/pamhelper/wire"
	"tokend/tokend/verify"
)

// The life of a connection. pamhelper waits 2.5 s in all.
const (
	readTimeout  = time.Second             // for the whole request
	lastLook     = 200 * time.Millisecond  // for what is there of it then
	checkTimeout = 1500 * time.Millisecond // for the verdict
	writeTimeout = time.Second             // for the reply

	defaultMaxConnections = 1024

	// usualRequest is how many bytes a request with a token seldom exceeds.
	usualRequest = 256
	// maxIdle is how many goroutines wait for connections.
	maxIdle = 64

	// A crowd is more connections than that at once. There, a no takes a moment longer, so
	// that who asks with wrong tokens without a pause leaves the processors to the others.
	crowd  = 8
	moment = 100 * time.Millisecond
)

// Config is what a Server is made of.
type Config struct {
	Check          func(ctx context.Context, user, secret string) verify.Verdict
	MaxConnections int // open at the same time; 0: 1024
	Logger         *slog.Logger
	Rejections     *Rejections
}

// Server answers the auth socket: one request and one reply per connection.
type Server struct {
	check    func(ctx context.Context, user, secret string) verify.Verdict
	slots    chan struct{}
	log      *slog.Logger
	rejected *Rejections
	seldom   rate.Sometimes
	idle     atomic.Int64
}

// New returns a Server.
func New(cfg Config) *Server {
	most := cfg.MaxConnections
	if most == 0 {
		most = defaultMaxConnections
	}
	return &Server{
		check: cfg.Check, slots: make(chan struct{}, most), log: cfg.Logger, rejected: cfg.Rejections,
		seldom: rate.Sometimes{First: 10, Interval: time.Second},
	}
}

// Serve answers until ctx ends; then it closes the listener, lets the requests
// under way have their reply, and returns nil. It returns early only when somebody
// else has closed the listener.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	listener = Patient(listener, s.log)
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // Accept tells
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	idle := make(chan net.Conn)
	defer close(idle)
	for {
		conn, err := listener.Accept()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", listener.Addr(), err)
		}
		select {
		case s.slots <- struct{}{}:
			select {
			case idle <- conn:
			default:
				connections.Go(func() { s.answer(context.WithoutCancel(ctx), conn, idle) })
			}
		default:
			s.turnAway(conn)
		}
	}
}

// answer answers a connection, and then those that come while it waits: a goroutine of its
// own for each would grow its stack anew. Of many, only some wait.
func (s *Server) answer(ctx context.Context, conn net.Conn, more <-chan net.Conn) {
	for ok := true; ok; {
		s.converse(ctx, conn)
		<-s.slots
		if s.idle.Add(1) > maxIdle {
			s.idle.Add(-1)
			return
		}
		conn, ok = <-more
		s.idle.Add(-1)
	}
}

// turnAway answers without having read: a reply this short never blocks, but the end
// of the connection may (see Conn).
func (s *Server) turnAway(conn net.Conn) {
	s.rejected.count(tooMany)
	s.seldom.Do(func() { s.log.Warn("connection refused: too many are open", "most", cap(s.slots)) })
	aside(func() { s.refuse(conn, wire.Busy) })
}

func (s *Server) converse(ctx context.Context, conn net.Conn) {
	if err := conn.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		_ = conn.Close() // without a deadline, nothing is done with it
		return
	}
	// What fits is read at once, instead of field by field.
	request, err := wire.ReadRequest(bufio.NewReaderSize(&lateReader{Conn: conn}, usualRequest))
	if err != nil {
		s.misread(conn, err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	verdict := s.check(ctx, string(request.Login), string(request.Secret))
	if !verdict.OK() {
		if len(s.slots) > crowd {
			time.Sleep(moment)
		}
		s.refuse(conn, string(verdict.Reason))
		return
	}
	if err := reply(conn, true, string(verdict.Reason)); err != nil { // the name is the owner's
		s.log.Warn("nobody waited for this yes: to the caller it was a no", "user", string(request.Login), "token", verdict.Token, "err", err)
	}
}

// lateReader looks once more when the time to read is up: it may be the daemon that
// was held up, and the request has been there all along.
type lateReader struct {
	net.Conn
	late bool
}

func (r *lateReader) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if r.late || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	r.late = true
	if err := r.SetReadDeadline(time.Now().Add(lastLook)); err != nil {
		return 0, err
	}
	return r.Conn.Read(p)
}

// misread tells of a request that did not come whole. None of it was a verdict,
// so what is answered, if anybody still listens, is a no.
func (s *Server) misread(conn net.Conn, err error) {
	reason := incomplete
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = tooSlow
	case errors.Is(err, wire.ErrTooLong):
		reason = malformed
	}
	s.rejected.count(reason)
	s.seldom.Do(func() {
		s.log.Warn("request refused: it did not come whole, or was none of pamhelper's", slices.Concat([]any{"reason", reason, "err", err}, whose(conn))...)
	})
	s.refuse(conn, string(verify.Malformed))
}

// whose says for the log who is calling, where that is known.
func whose(conn net.Conn) []any {
	if c, ok := conn.(*Conn); ok {
		return []any{"peer", c.Peer.String(), "pid", c.Peer.PID}
	}
	return nil
}

func (s *Server) refuse(conn net.Conn, reason string) {
	if err := reply(conn, false, reason); err != nil {
		s.log.Debug("nobody waited for this no", "err", err)
	}
}

// reply tells the caller and hangs up. An error says that the caller did not hear it.
func reply(conn net.Conn, ok bool, reason string) error {
	err := conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil {
		_, err = conn.Write(wire.EncodeReply(ok, reason))
	}
	return errors.Join(err, conn.Close())
}
