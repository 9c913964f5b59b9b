package main

import (
	"syscall"
	"unsafe"
)

const (
	pollReading = 1 // POLLIN
	pollWriting = 4 // POLLOUT

	// authpriv (10), and how bad it is
	priorityError  = "<83>"
	priorityNotice = "<85>"
)

// report is what the log is told of a refusal: who, why, and never the secret.
// An accepted login is left to the daemon's log.
type report struct {
	question
	problem string // why there is no answer; empty: there is one
	reason  []byte // the daemon's
}

// tell sends one line to syslog, and to the standard error when that is a
// terminal. It waits for neither.
func (r *report) tell() {
	var l line
	l.add(r.program)
	l.add("[")
	l.number(processID())
	l.add("]: refused ")
	l.quote(r.user, 64)
	priority := priorityNotice
	if r.problem != "" {
		priority = priorityError
		l.add(": ")
		l.add(r.problem)
		if r.asked {
			l.add(" (asked at ")
			l.quote([]byte(r.socket), 107) // as long as a socket's may be
			l.add(")")
		}
	} else {
		l.add(", tokend says: ")
		l.escape(r.reason)
	}
	syslog(priority, l.text[:l.size])
	if isTerminal(2) {
		l.add("\n")
		write(2, l.text[:l.size])
	}
}

// line is a text that is put together without a heap; what doesn't fit is left
// out.
type line struct {
	text [512]byte
	size int
}

func (l *line) add(s string) { l.size += copy(l.text[l.size:], s) }

// number adds a positive number.
func (l *line) number(n int) {
	var digits [20]byte
	i := len(digits)
	for ; n > 0; n /= 10 {
		i--
		digits[i] = '0' + byte(n%10)
	}
	l.size += copy(l.text[l.size:], digits[i:])
}

// quote adds a stranger's name in quotes: so many bytes of it at most, and nothing
// of a token that was given for a name.
func (l *line) quote(name []byte, most int) {
	shown := min(len(name), most)
	if secret := tokenIn(name); secret >= 0 {
		shown = min(shown, secret)
	}
	l.add("\"")
	l.escape(name[:shown])
	if shown < len(name) {
		l.add("...")
	}
	l.add("\"")
}

// tokenIn returns where what is secret of a token would begin, or -1, by the rule
// of token.RedactName.
func tokenIn(name []byte) int {
	const prefix, inAll, atOnce, shown, row, ofKnox = 4, 30, 16, 8, 32, 49
	run, hex := 0, true
	for i, c := range name {
		if rest := name[i:]; run == 0 && isPrefix(rest) && (words(rest[prefix:]) >= inAll || begins(rest[prefix:]) >= atOnce) {
			return i + prefix
		}
		if !isWord(c) {
			run, hex = 0, true
			continue
		}
		run++
		hex = hex && (c <= '9' || c >= 'a' && c <= 'f')
		if run >= row && !hex || run >= ofKnox {
			return i + 1 - run + shown
		}
	}
	return -1
}

func isPrefix(s []byte) bool {
	return len(s) > 4 && s[0]|0x20 == 'i' && s[1]|0x20 == 'r' && s[2]|0x20 == 't' && s[3] == '_'
}

func words(s []byte) int {
	n := 0
	for _, c := range s {
		if isWord(c) {
			n++
		}
	}
	return n
}

func begins(s []byte) int {
	n := 0
	for n < len(s) && (isWord(s[n]) || s[n] == ' ' || s[n] >= '\t' && s[n] <= '\r') {
		n++
	}
	return n
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// escape writes what is not printable ASCII as \xNN, so that nobody can forge a
// line of the log.
func (l *line) escape(s []byte) {
	const hex = "0123456789abcdef"
	for _, c := range s {
		if c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			l.size += copy(l.text[l.size:], []byte{c})
			continue
		}
		l.size += copy(l.text[l.size:], []byte{'\\', 'x', hex[c>>4], hex[c&15]})
	}
}

func processID() int {
	id, _, _ := syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	return int(id)
}

// syslog sends a datagram to the system's log, if it takes one at once.
func syslog(priority string, text []byte) {
	address := unixAddress{family: syscall.AF_UNIX}
	copy(address.path[:len(address.path)-1], syslogPath)
	var l line
	l.add(priority)
	l.size += copy(l.text[l.size:], text)
	if l.sendTo(&address, syscall.SOCK_DGRAM) == syscall.EPROTOTYPE {
		l.add("\x00")                               // ends a line in a stream, which some daemons listen on
		_ = l.sendTo(&address, syscall.SOCK_STREAM) // there is nobody else to tell
	}
}

// unixAddress is the kernel's struct sockaddr_un.
type unixAddress struct {
	family uint16
	path   [108]byte
}

// sendTo sends the line to a socket of the kind, and waits for nobody.
func (l *line) sendTo(address *unixAddress, kind uintptr) syscall.Errno {
	fd, _, errno := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, kind|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return errno
	}
	if _, _, errno = syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(address)), unsafe.Sizeof(*address)); errno == 0 {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&l.text)), uintptr(l.size), syscall.MSG_NOSIGNAL, 0, 0)
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	return errno
}

func isTerminal(fd uintptr) bool {
	var attributes [64]byte // more than a struct termios
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, fd, syscall.TCGETS, uintptr(unsafe.Pointer(&attributes)))
	return errno == 0
}

// say tells the person at the other end of the standard output, if anybody
// reads there: it doesn't wait for it.
func say(s string) {
	write(1, unsafe.Slice(unsafe.StringData(s), len(s)))
}

func write(fd uintptr, p []byte) {
	if ready(int32(fd), pollWriting, 0) {
		_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	}
}
