package main

import (
	"unsafe"

	"tokend/pamhelper/wire"
)

// Set at link time (-X main.socketPath=…), so that a test can build a helper
// for a socket of its own.
var (
	socketPath = "/run/tokend/auth.sock"
	syslogPath = "/dev/log"
)

// What stands in the runtime's place, see entry.
var (
	noRuntime   [128]uintptr // the g of compiled Go code
	threadLocal [2]uintptr   // where amd64 looks for it
)

// What only the assembler and the linker use.
var (
	_ = entry
	_ = start
	_ = refuse
	_ = &noRuntime
	_ = &threadLocal
)

func entry()
func refuse()
func refuseAddress() uintptr

const (
	yes = 0
	no  = 1
)

// In all the helper takes at most hardLimit: then the kernel ends it. It gives
// up by itself a little earlier, so that it can still say why.
const (
	second    = 1_000_000_000
	softLimit = 2_500_000_000
	hardLimit = 2_900_000_000
)

// checkerName is the name of iRODS's own checker.
const checkerName = "irodsPamAuthCheck"

// start is the whole program. It gets the kernel's stack, and what it returns
// is the exit status: yes or no.
func start(stack unsafe.Pointer) int32 {
	guarded := guard()
	until := wire.Now() + softLimit
	var reply wire.Reply
	q, problem := whoAsks(arguments(stack))
	if !guarded {
		problem = "the kernel refuses to set a timer, to catch signals or to take the real user's rights"
	}
	if problem == "" {
		problem = q.ask(&reply, until)
	}
	if problem == "" && reply.OK() {
		say("Authenticated\n")
		return yes
	}
	refusal := report{question: q, problem: problem, reason: reply.Reason()}
	refusal.tell()
	say("Not Authenticated\n")
	return no
}

// question is who wants to come in, and which socket answers.
type question struct {
	program string // under which name this runs
	user    []byte
	socket  string
	asked   bool // at the socket
}

// whoAsks finds that out, in the way that argv[0] chooses. The problem is empty
// when there is none.
func whoAsks(args argv) (q question, problem string) {
	if base(args.at(0)) == checkerName {
		closeInherited()
		return question{program: checkerName, user: args.bytes(1), socket: socketPath}, ""
	}
	user, times := args.environment("PAM_USER=")
	q = question{program: "pamhelper", user: user, socket: socketPath}
	switch {
	case args.count == 3 && args.at(1) == "--socket":
		q.socket = args.at(2)
	case args.count == 2 && hasPrefix(args.bytes(1), "--socket="):
		q.socket = args.at(1)[len("--socket="):]
	case args.count > 1:
		return q, "usage: pamhelper [--socket PATH], run by pam_exec with expose_authtok"
	}
	if len(q.user) == 0 {
		return q, "PAM_USER is not set: this is run by pam_exec"
	}
	if times > 1 { // pam_exec sets it once, behind what others have put into PAM's environment
		return q, "PAM_USER is set more than once: something else in the PAM stack sets it"
	}
	return q, ""
}

// ask reads the secret and has the daemon answer. The problem is why there is
// no reply.
func (q *question) ask(reply *wire.Reply, until int64) (problem string) {
	var buffer secretBuffer
	secret, problem := readSecret(&buffer, until)
	if problem == empty && q.program != checkerName {
		return "the secret is empty: does the pam_exec line say expose_authtok?"
	}
	if problem != "" {
		return problem
	}
	q.asked = true
	request := wire.Request{Login: q.user, Secret: secret, Service: []byte("irods")}
	if failure := wire.Ask(q.socket, &request, reply, until); failure != wire.Answered {
		return failure.Error()
	}
	return ""
}
