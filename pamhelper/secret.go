package main

import (
	"syscall"
	"unsafe"

	"tokend/pamhelper/wire"
)

// maxSecret is how long a secret may be; iRODS lets 70,000 bytes through.
const maxSecret = 1024

// empty is what is wrong with no secret at all.
const empty = "the secret is empty"

// secretBuffer holds the longest secret with the CR LF behind it.
type secretBuffer [maxSecret + 2]byte

// readSecret reads the standard input up to the first NUL, LF or CR LF, or its
// end: iRODS and pam_exec close it, an old pam_exec ends it with a NUL, and a
// person at a terminal sends a line. A longer secret is read on to its end all
// the same, so that the writer doesn't fail.
func readSecret(buffer *secretBuffer, until int64) (secret []byte, problem string) {
	overflow := false
	for n := 0; ; {
		if n == len(buffer) {
			n, overflow = 0, true
		}
		if !ready(0, pollReading, until-wire.Now()) {
			return nil, "the secret did not come in time"
		}
		got, errno := read(0, buffer[n:])
		if errno == syscall.EINTR || errno == syscall.EAGAIN {
			continue
		}
		if errno != 0 {
			return nil, "the standard input cannot be read"
		}
		size, ended := lineEnd(buffer[:n+got], n)
		if ended || got == 0 {
			return checkSecret(buffer[:size], overflow)
		}
		n += got
	}
}

// lineEnd returns how many bytes stand before the first NUL, LF or CR LF at or
// behind from, and whether there is one.
func lineEnd(text []byte, from int) (size int, found bool) {
	for i := from; i < len(text); i++ {
		switch {
		case text[i] == 0:
			return i, true
		case text[i] == '\n' && i > 0 && text[i-1] == '\r':
			return i - 1, true
		case text[i] == '\n':
			return i, true
		}
	}
	return len(text), false
}

func checkSecret(secret []byte, overflow bool) ([]byte, string) {
	switch {
	case overflow || len(secret) > maxSecret:
		return nil, "the secret is longer than 1024 bytes"
	case len(secret) == 0:
		return nil, empty
	}
	return secret, ""
}

// ready waits until the descriptor can be read or written, so many nanoseconds
// at most.
func ready(fd int32, event int16, left int64) bool {
	if left < 0 {
		return false
	}
	poll := struct {
		fd       int32
		event, _ int16
	}{fd: fd, event: event}
	wait := syscall.Timespec{Sec: left / second, Nsec: left % second}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&wait)), 0, maskSize, 0)
		if errno != syscall.EINTR {
			return errno == 0 && n == 1
		}
	}
}

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
