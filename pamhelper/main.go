// Pamhelper is what iRODS's password check runs: it asks tokend over a Unix
// socket whether a user may come in with a secret, and exits 0 for yes or 1 for
// anything else.
//
// How it works is chosen by argv[0] alone. As irodsPamAuthCheck it stands in
// place of iRODS's own checker: argv[1] is the user name, as data, and nothing
// else is read, no flag and no environment. Under any other name it is
// pam_exec's child: pamhelper [--socket PATH], and PAM_USER names the user. The
// secret comes on the standard input either way.
//
// # Without Go's runtime
//
// An iRODS agent hands its checker an environment that an unauthenticated
// client may have filled, and takes any exit status but 0 and 1 very badly. Go's
// runtime reads GOMAXPROCS, GOMEMLIMIT, GODEBUG and others before main, exits
// with 2 when it runs out of threads or memory, and takes longer to start than
// a check does. So the kernel enters this program at entry (in assembler), which
// calls start, and Go's runtime never runs: one thread, no heap, no environment,
// every signal that could change an answer ends it with 1.
//
// The price is a rule for all code here and for what it uses of package wire:
// nothing that allocates, no goroutine, map, panic, defer, string building or
// interface, and no variable that has to be initialised. A test reads the
// machine code and refuses any call into the runtime that is not plain copying,
// comparing or clearing of memory. See docs/pamhelper.md.
package main

import "syscall"

// main runs only in a binary that was linked without its entry, by go build or
// go install without the flags in the Makefile. Such a one says no.
func main() {
	_, _ = syscall.Write(2, []byte("pamhelper: built without its entry point; use make build\n"))
	syscall.Exit(1)
}
