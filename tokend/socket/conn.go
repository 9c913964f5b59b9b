package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Conn is a connection of a peer.
//
// Whoever can connect can pass descriptors along with what it writes (SCM_RIGHTS).
// tokend takes none: the kernel closes them when the bytes are read, or when the
// connection is closed. The close of a TCP socket takes as long as its owner wished
// (SO_LINGER), inside that read or close, where no deadline holds. Kernels from 6.16
// on refuse the passing (refuseRights). On others a Conn ends such a wait.
type Conn struct {
	*net.UnixConn
	Peer Peer
}

// Read is net.Conn's.
func (c *Conn) Read(p []byte) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		defer unstick()()
		n, failed = unix.Read(int(fd), p)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		op.Op = "read"
	}
	switch {
	case err != nil:
		return 0, err
	case failed != nil:
		return 0, os.NewSyscallError("read", failed)
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// Close is net.Conn's.
func (c *Conn) Close() error {
	defer unstick()()
	return c.UnixConn.Close()
}

// refuseRights has the kernel refuse what anybody passes to the connections of a
// socket that listens, or will, where it can.
func refuseRights(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0) }

// prompt is within which time a system call returns that does not wait, on a
// machine with work to do.
const prompt = 10 * time.Millisecond

// unstick ends the waits in the kernel of a system call that ought not to wait, from
// here until stop is called.
func unstick() (stop func()) {
	over := make(chan struct{})
	late := time.AfterFunc(prompt, func() {
		for {
			oneByOne.Do(wakeThreads)
			select {
			case <-over:
				return
			case <-time.After(prompt):
			}
		}
	})
	return func() {
		late.Stop()
		close(over)
	}
}

var oneByOne = rate.Sometimes{Interval: prompt / 2}

// wakeThreads sends each thread of this process the signal that Go's runtime sends
// them all the time, and which means nothing to a program. A wait that a signal can
// end, ends.
func wakeThreads() {
	threads, _ := os.ReadDir("/proc/self/task") // those that were listed, if not all
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.Tgkill(os.Getpid(), id, unix.SIGURG) // it may have ended
		}
	}
}

// aside runs what may take a while beside the accepting of connections. Where many
// do, the accepting waits for one to end.
func aside(f func()) {
	besides <- struct{}{}
	go func() {
		defer func() { <-besides }()
		f()
	}()
}

var besides = make(chan struct{}, 256)
