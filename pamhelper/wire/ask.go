package wire

import "syscall"

// Failure is why there is no answer. It is a small number, so that it costs
// nothing where there is no runtime; elsewhere it is an error.
type Failure uint8 //nolint:errname // one of its values is no error

// Every Failure there is; the zero Failure is none.
//
//nolint:errname // as above
const (
	Answered  Failure = iota
	TooLong           // a field is longer than MaxField, or the path than a socket's may be
	NoSocket          // nobody listens at the path
	Forbidden         // the socket's mode or access rules, or the mode of a folder above, keep us out
	Closed            // the daemon ended the connection without a word
	TimedOut          // no answer in time
	Garbled           // the answer is none of saslauthd's protocol
	Broken            // the kernel refused something else
)

// Error says what happened and, where it isn't the network's whim, what to do.
func (f Failure) Error() string {
	switch f {
	case Answered:
		return "answered"
	case TooLong:
		return "the name, the secret or the socket's path is too long, or the path is empty"
	case NoSocket:
		return "nobody listens on the socket: is tokend running?"
	case Forbidden:
		return "the permissions of the socket, or of a folder above it, forbid it: is the caller among [auth] peers?"
	case Closed:
		return "the daemon hung up without an answer: is the caller among [auth] peers?"
	case TimedOut:
		return "no answer in time"
	case Garbled:
		return "the answer makes no sense"
	}
	return "the kernel refused to connect"
}

const (
	millisecond = 1_000_000 // nanoseconds
	second      = 1000 * millisecond

	// A daemon that is being started again is waited for so long.
	patience = 2 * second

	firstPause = 10 * millisecond
	lastPause  = 200 * millisecond
)

// Ask sends the request to the daemon at the path and waits for its reply until
// the time until (see Now), whatever happens.
//
// A check changes nothing, so it is asked again after a short pause when the
// connection broke before the answer (the daemon was ended and starts again),
// when the daemon was too busy, and, for two seconds, when nobody listens or the
// socket's permissions forbid it: it may be about to be made.
//
// It blocks its thread. Reply is what was answered when the Failure is Answered.
func Ask(path string, req *Request, reply *Reply, until int64) Failure {
	var message [MaxRequest]byte
	size := req.encode(&message)
	if size == 0 {
		return TooLong
	}
	begun := Now()
	for pause := int64(firstPause); ; pause = min(2*pause, lastPause) {
		*reply = Reply{}
		failure := exchange(path, message[:size], reply, until)
		next := Now() + pause
		switch {
		case failure == Answered && string(reply.Reason()) != Busy,
			(failure == NoSocket || failure == Forbidden) && next > begun+patience,
			failure != Answered && failure != NoSocket && failure != Forbidden && failure != Closed,
			next >= until:
			return failure
		}
		sleep(pause)
		if Now() >= until { // it overslept
			return failure
		}
	}
}

func exchange(path string, message []byte, reply *Reply, until int64) Failure {
	fd, errno := socket()
	if errno != 0 {
		return Broken
	}
	failure := converse(fd, path, message, reply, until)
	shut(fd)
	return failure
}

func converse(fd uintptr, path string, message []byte, reply *Reply, until int64) Failure {
	if failure := connect(fd, path, until); failure != Answered {
		return failure
	}
	for sent := 0; sent < len(message); {
		if !limit(fd, syscall.SO_SNDTIMEO, until) {
			return TimedOut
		}
		n, errno := send(fd, message[sent:])
		if errno == syscall.EPIPE || errno == syscall.ECONNRESET {
			break // it may have answered before it read: "busy"
		}
		if failure := failed(errno); failure != Answered {
			return failure
		}
		sent += n
	}
	var size [2]byte
	if failure := receive(fd, size[:], until); failure != Answered {
		return failure
	}
	reply.size = int(size[0])<<8 | int(size[1])
	if reply.size > MaxReply {
		reply.size = 0
		return Garbled
	}
	if failure := receive(fd, reply.text[:reply.size], until); failure != Answered {
		reply.size = 0
		return failure
	}
	if !reply.valid() {
		reply.size = 0
		return Garbled
	}
	return Answered
}

// receive fills buf.
func receive(fd uintptr, buf []byte, until int64) Failure {
	for got := 0; got < len(buf); {
		if !limit(fd, syscall.SO_RCVTIMEO, until) {
			return TimedOut
		}
		n, errno := read(fd, buf[got:])
		if failure := failed(errno); failure != Answered {
			return failure
		}
		if errno == 0 && n == 0 {
			return Closed
		}
		got += n
	}
	return Answered
}

// failed turns an errno of send or read into a Failure. A call that was
// interrupted, or has waited for its slice of time, is none: it is made again.
func failed(errno syscall.Errno) Failure {
	switch errno {
	case 0, syscall.EINTR, syscall.EAGAIN:
		return Answered
	case syscall.ECONNRESET:
		return Closed
	}
	return Broken
}

func connect(fd uintptr, path string, until int64) Failure {
	var address unixAddress
	if !address.set(path) {
		return TooLong
	}
	for {
		// A full queue makes a blocking connect wait as long as a send may.
		if !limit(fd, syscall.SO_SNDTIMEO, until) {
			return TimedOut
		}
		switch errno := connectTo(fd, &address); errno {
		case 0:
			return Answered
		case syscall.EINTR, syscall.EAGAIN:
			continue
		case syscall.ECONNREFUSED, syscall.ENOENT:
			return NoSocket
		case syscall.EACCES, syscall.EPERM:
			return Forbidden
		default:
			return Broken
		}
	}
}
