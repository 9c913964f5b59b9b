package main

import (
	"testing"
	"unsafe"
)

// stack is what the kernel puts there for a new program.
func stack(arguments, environment []string) unsafe.Pointer {
	made := &struct {
		count    int
		pointers [16]*byte
	}{count: len(arguments)}
	for i, s := range arguments {
		made.pointers[i] = &append([]byte(s), 0)[0]
	}
	for i, s := range environment {
		made.pointers[len(arguments)+1+i] = &append([]byte(s), 0)[0]
	}
	return unsafe.Pointer(made)
}

func TestArgumentsAreReadFromTheStack(t *testing.T) {
	args := arguments(stack([]string{"program", "", "a b\xff"}, []string{"HOME=/"}))
	for i, want := range []string{"program", "", "a b\xff", "", ""} { // the environment is no argument
		if got := args.at(i); got != want || string(args.bytes(i)) != want {
			t.Errorf("argument %d: got %q, %q, want %q", i, got, args.bytes(i), want)
		}
	}
	none := arguments(stack(nil, []string{"HOME=/"}))
	if got := none.at(0); got != "" {
		t.Errorf("without any: got %q", got)
	}
	if got, times := none.environment("HOME="); string(got) != "/" || times != 1 {
		t.Errorf("without any: got %q from the environment, %d times", got, times)
	}
}

func TestTheVariableOfThatVeryNameCounts(t *testing.T) {
	for _, row := range []struct {
		environment []string
		want        string
		times       int
	}{
		{nil, "", 0},
		{[]string{"PAM_USER=alice"}, "alice", 1},
		{[]string{"PAM_USER=root", "PAM_TYPE=auth", "PAM_USER=alice"}, "alice", 2},
		{[]string{"PAM_USER=root", "PAM_USER="}, "", 2},
		{[]string{"PAM_USER==a=b"}, "=a=b", 1},
		{[]string{"PAM_USERS=root", "XPAM_USER=root", "pam_user=root", "PAM_USER", "PAM_USE", ""}, "", 0},
		{[]string{"X=PAM_USER=root"}, "", 0},
	} {
		args := arguments(stack([]string{"pamhelper", "PAM_USER=argument"}, row.environment))
		if got, times := args.environment("PAM_USER="); string(got) != row.want || times != row.times {
			t.Errorf("%q: got %q, %d times, want %q, %d times", row.environment, got, times, row.want, row.times)
		}
	}
}

// Under iRODS's checker's name the helper closes descriptors, the test's too:
// that is tested with the built program.
func TestWhoAsksUnderPAM(t *testing.T) {
	const usage = "usage: pamhelper [--socket PATH], run by pam_exec with expose_authtok"
	const unset = "PAM_USER is not set: this is run by pam_exec"
	const twice = "PAM_USER is set more than once: something else in the PAM stack sets it"
	alice := []string{"PAM_TYPE=auth", "PAM_USER=alice"}
	for _, row := range []struct {
		arguments, environment []string
		user, socket, problem  string
	}{
		{[]string{"pamhelper"}, alice, "alice", socketPath, ""},
		{[]string{"/usr/libexec/tokend/pamhelper"}, alice, "alice", socketPath, ""},
		{[]string{"any name"}, alice, "alice", socketPath, ""},
		{[]string{""}, alice, "alice", socketPath, ""},
		{nil, alice, "alice", socketPath, ""},
		{[]string{"pamhelper", "--socket", "/a/b"}, alice, "alice", "/a/b", ""},
		{[]string{"pamhelper", "--socket", ""}, alice, "alice", "", ""},
		{[]string{"pamhelper", "--socket=/a/b"}, alice, "alice", "/a/b", ""},
		{[]string{"pamhelper", "--socket="}, alice, "alice", "", ""},
		{[]string{"pamhelper"}, []string{"PAM_USER=--socket"}, "--socket", socketPath, ""},

		{[]string{"pamhelper", "--socket"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "--socket/a/b"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "--socket=/a/b", "c"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "-socket", "/a/b"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "--socket", "/a/b", "c"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "--help"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper", "alice"}, alice, "alice", socketPath, usage},
		{[]string{"pamhelper"}, []string{"PAM_USER=bob", "PAM_USER=alice"}, "alice", socketPath, twice},
		{[]string{"pamhelper"}, nil, "", socketPath, unset},
		{[]string{"pamhelper"}, []string{"USER=root", "LOGNAME=root", "PAM_USER="}, "", socketPath, unset},
	} {
		q, problem := whoAsks(arguments(stack(row.arguments, row.environment)))
		if string(q.user) != row.user || q.socket != row.socket || q.program != "pamhelper" || problem != row.problem {
			t.Errorf("%q with %q: got %q, %q, %q, %q", row.arguments, row.environment, q.program, q.user, q.socket, problem)
		}
	}
}
