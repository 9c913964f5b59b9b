package main

import (
	"syscall"
	"unsafe"
)

// guard makes sure of what must hold before anything is read: a signal can only
// refuse, the kernel ends a check that takes too long, and no right is held
// that the caller's real user has not.
func guard() bool {
	return refuseOnSignals() && startClock() && dropPrivileges()
}

// signalStack is where signals are taken, the one that the stack is full
// included. The kernel may save ten kilobytes of registers there.
var signalStack [64 << 10]byte

// altStack is the kernel's stack_t.
type altStack struct {
	base  uintptr
	flags int32
	size  uintptr
}

// action is the kernel's struct sigaction. The constants are the kernel's too;
// package syscall doesn't have them.
type action struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigDefault = 0          // SIG_DFL
	sigIgnore  = 1          // SIG_IGN
	saRestorer = 0x04000000 // SA_RESTORER
	saOnStack  = 0x08000000 // SA_ONSTACK
	setMask    = 2          // SIG_SETMASK
	realTimer  = 0          // ITIMER_REAL
	lastSignal = 64
	maskSize   = 8 // bytes of the kernel's sigset_t
)

// refuseOnSignals gives every signal that can be caught the handler that exits
// with 1, whatever was inherited: a checker under an iRODS agent is born with
// SIGTERM ignored. Harmless ones stay harmless, and job control can't stop it.
func refuseOnSignals() bool {
	stack := altStack{base: uintptr(unsafe.Pointer(&signalStack)), size: unsafe.Sizeof(signalStack)}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SIGALTSTACK, uintptr(unsafe.Pointer(&stack)), 0, 0); errno != 0 {
		return false
	}
	ending := action{handler: refuseAddress(), flags: saRestorer | saOnStack, restorer: refuseAddress()}
	for signal := syscall.Signal(1); signal <= lastSignal; signal++ {
		act := ending
		switch signal {
		case syscall.SIGKILL, syscall.SIGSTOP:
			continue
		case syscall.SIGPIPE, syscall.SIGXFSZ, syscall.SIGTTOU: // of what is written for people
			act = action{handler: sigIgnore}
		case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH:
			act = action{handler: sigDefault}
		}
		_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(&act)), 0, maskSize, 0, 0)
		if errno != 0 {
			return false
		}
	}
	var none uint64
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&none)), 0, maskSize, 0, 0)
	return errno == 0
}

// startClock has the kernel send SIGALRM at the hard limit.
func startClock() bool {
	timer := [2]syscall.Timeval{{}, {Sec: hardLimit / second, Usec: hardLimit % second / 1000}}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETITIMER, realTimer, uintptr(unsafe.Pointer(&timer)), 0)
	return errno == 0
}

// dropPrivileges makes the effective user and group the real ones: under iRODS's
// setuid checker the effective user is root.
func dropPrivileges() bool {
	return becomeReal(syscall.SYS_GETRESGID, syscall.SYS_SETRESGID) && becomeReal(syscall.SYS_GETRESUID, syscall.SYS_SETRESUID)
}

// becomeReal sets the effective and the saved ID to the real one. Where they are
// the same nothing is set: an ID without a number in a container's namespace
// can't be.
func becomeReal(get, set uintptr) bool {
	var real, effective, saved uint32
	_, _, errno := syscall.RawSyscall(get, uintptr(unsafe.Pointer(&real)), uintptr(unsafe.Pointer(&effective)), uintptr(unsafe.Pointer(&saved)))
	if errno != 0 {
		return false
	}
	if effective == real && saved == real {
		return true
	}
	id := uintptr(real)
	_, _, errno = syscall.RawSyscall(set, id, id, id)
	return errno == 0
}

// closeInherited closes what the agent left open: its client's socket and its
// database's. pam_exec closes them itself.
func closeInherited() {
	const sysCloseRange = 436 // on every architecture, from Linux 5.9 on
	_, _, errno := syscall.RawSyscall(sysCloseRange, 3, uintptr(^uint32(0)), 0)
	if errno == 0 {
		return
	}
	var limit syscall.Rlimit
	_, _, errno = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, 0, uintptr(unsafe.Pointer(&limit)), 0, 0)
	if errno != 0 || limit.Max > 1<<20 {
		limit.Max = 1 << 20
	}
	for fd := uintptr(3); fd < uintptr(limit.Max); fd++ {
		_, _, _ = syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	}
}
