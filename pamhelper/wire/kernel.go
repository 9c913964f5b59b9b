package wire

import (
	"syscall"
	"unsafe"
)

// The kernel's calls, raw: they need no scheduler. Each takes Go's slices and
// returns how much was done.

// Now is the monotonic clock in nanoseconds.
func Now() int64 {
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*second + t.Nsec
}

const clockMonotonic = 1 // linux/time.h; package syscall doesn't have it

// sleep goes on when a signal interrupts it, as Go's runtime does with its own.
func sleep(nanoseconds int64) {
	t := syscall.Timespec{Sec: nanoseconds / second, Nsec: nanoseconds % second}
	for {
		_, _, errno := syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), uintptr(unsafe.Pointer(&t)), 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

func socket() (uintptr, syscall.Errno) {
	fd, _, errno := syscall.RawSyscall(syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	return fd, errno
}

func shut(fd uintptr) { _, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0) }

// slice is how long one call may wait. The kernel rounds such a limit up: a wait
// of over two seconds may end a quarter of a second late, one of a quarter of a
// second a few milliseconds.
const slice = 250 * millisecond

// limit sets how long the next connect, send or read on the socket may wait, and
// reports whether there is any time left. A call that has waited in vain is made
// again until there is none.
func limit(fd uintptr, option uintptr, until int64) bool {
	left := min(until-Now(), slice)
	if left <= 0 {
		return false
	}
	t := syscall.Timeval{Sec: left / second, Usec: max(left%second/1000, 1)}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, syscall.SOL_SOCKET, option,
		uintptr(unsafe.Pointer(&t)), unsafe.Sizeof(t), 0)
	return errno == 0
}

func send(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
		syscall.MSG_NOSIGNAL, 0, 0)
	return done(n, errno)
}

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return done(n, errno)
}

func done(n uintptr, errno syscall.Errno) (int, syscall.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// unixAddress is the kernel's struct sockaddr_un.
type unixAddress struct {
	family uint16
	path   [108]byte
}

// set reports whether the path fits, with the zero byte that ends it.
func (a *unixAddress) set(path string) bool {
	a.family = syscall.AF_UNIX
	return len(path) < len(a.path) && copy(a.path[:], path) > 0
}

func connectTo(fd uintptr, address *unixAddress) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(address)), unsafe.Sizeof(*address))
	return errno
}
