package wire_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/pamhelper/wire"
)

const (
	login  = "alice"
	secret = "s3cret"

	self   = 0 // who runs the test
	nobody = 65534
)

// TestMain is also the program that asks. Ask blocks its thread without telling
// Go's scheduler, so that in one process with the test's daemon it could keep
// the daemon from answering.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "ask" {
		within, err := time.ParseDuration(os.Args[5])
		if err != nil {
			panic(err)
		}
		open := descriptors()
		begun := time.Now()
		request := wire.Request{Login: []byte(os.Args[3]), Secret: []byte(os.Args[4]), Service: []byte("irods")}
		var reply wire.Reply
		failure := wire.Ask(os.Args[2], &request, &reply, wire.Now()+int64(within))
		took := time.Since(begun)
		if left := descriptors() - open; left != 0 {
			panic(fmt.Sprintf("Ask left %d descriptors open", left))
		}
		fmt.Printf("%d %t %d %q", failure, reply.OK(), took, reply.Reason())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func descriptors() int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return len(all)
}

// result is all that Ask returns.
type result struct {
	failure wire.Failure
	ok      bool
	reason  string
}

func yes(text string) result             { return result{wire.Answered, true, text} }
func no(reason string) result            { return result{wire.Answered, false, reason} }
func failed(failure wire.Failure) result { return result{failure, false, ""} }

type timedResult struct {
	result
	took time.Duration
}

// mustEndWithin allows for a machine that has other things to do.
func (r timedResult) mustEndWithin(t *testing.T, limit time.Duration) {
	t.Helper()
	if limit += 2 * time.Second; r.took > limit {
		t.Errorf("it took %v, more than %v", r.took, limit)
	}
}

func ask(t *testing.T, path string, within time.Duration) timedResult {
	t.Helper()
	return askAs(t, self, path, login, secret, within)
}

// askInterrupted asks where a signal interrupts a call every 10 ms: Go's
// scheduler sends it to a thread that doesn't come back.
func askInterrupted(t *testing.T, path string, within time.Duration) timedResult {
	t.Helper()
	return run(t, child(t, "GODEBUG=asyncpreemptoff=0", path, login, secret, within))
}

// askAs asks as another user if that can be done, which is when it matters:
// permissions keep everybody out but root.
func askAs(t *testing.T, uid uint32, path, login, secret string, within time.Duration) timedResult {
	t.Helper()
	child := child(t, "GODEBUG=asyncpreemptoff=1", path, login, secret, within)
	if uid != self && os.Geteuid() == 0 {
		child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	return run(t, child)
}

func child(t *testing.T, variable, path, login, secret string, within time.Duration) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	child := exec.CommandContext(ctx, "/proc/self/exe", "ask", path, login, secret, within.String())
	child.Env = append(os.Environ(), variable, "GORACE=atexit_sleep_ms=0")
	return child
}

func run(t *testing.T, child *exec.Cmd) timedResult {
	t.Helper()
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	return readResult(t, string(out))
}

// runStopped does the same, and stops the child for a time when it is told to.
func runStopped(t *testing.T, child *exec.Cmd, when <-chan struct{}, long time.Duration) timedResult {
	t.Helper()
	var out strings.Builder
	child.Stdout, child.Stderr = &out, os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-when:
	case <-time.After(20 * time.Second):
		t.Fatal("the time to stop it never came")
	}
	if err := child.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(long)
	if err := errors.Join(child.Process.Signal(syscall.SIGCONT), child.Wait()); err != nil {
		t.Fatal(err)
	}
	return readResult(t, out.String())
}

// readResult reads what the child printed.
func readResult(t *testing.T, out string) timedResult {
	t.Helper()
	var got timedResult
	if _, err := fmt.Sscanf(out, "%d %t %d %q", &got.failure, &got.ok, &got.took, &got.reason); err != nil {
		t.Fatalf("%s: %v", strconv.Quote(out), err)
	}
	return got
}
