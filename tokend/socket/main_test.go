package socket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/pamhelper/wire"
	"tokend/tokend/socket"
)

// programs are what this test's program is as well, each with one argument.
var programs = map[string]func(argument string) (said string){
	"knock":         knock,
	"helper":        helper,
	"queue":         fillQueue,
	"adopted queue": fillAdoptedQueue,
	"left out": func(peer string) string {
		_, leftOut := socket.ResolvePeers([]string{peer})
		return fmt.Sprint(leftOut)
	},
}

// TestMain is also those programs, and the one that asks as another user.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && programs[os.Args[1]] != nil {
		fmt.Print(programs[os.Args[1]](os.Args[2]))
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "ask" {
		conn, err := net.Dial("unix", os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		reply, err := converse(conn, request("alice", "right"))
		fmt.Fprint(os.Stderr, err)
		fmt.Fprint(os.Stdout, reply)
		os.Exit(0)
	}
	status := m.Run()
	if dir, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(status)
}

// asker is who a child process runs as.
type asker struct {
	uid, gid int
	groups   []int // supplementary
}

// ask sends a good request as somebody else, and returns all bytes that came
// back.
func (a asker) ask(t *testing.T, path string) string {
	t.Helper()
	child := a.runs(t, "ask", path)
	var stdout, stderr strings.Builder
	child.Stdout, child.Stderr = &stdout, &stderr
	if err := child.Run(); err != nil {
		t.Fatalf("this test asks as other users: run it as root, or where sudo wants no password: %v\n%s", err, stderr.String())
	}
	return stdout.String()
}

// runs is this test's program as somebody else.
func (a asker) runs(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	groups := "--clear-groups"
	if len(a.groups) > 0 {
		groups = "--groups=" + strings.Trim(strings.ReplaceAll(fmt.Sprint(a.groups), " ", ","), "[]")
	}
	command := []string{"setpriv", "--reuid=" + strconv.Itoa(a.uid), "--regid=" + strconv.Itoa(a.gid), groups, binary}
	command = append(command, args...)
	if os.Geteuid() != 0 {
		command = append([]string{"sudo", "-n"}, command...)
	}
	child := exec.CommandContext(t.Context(), command[0], command[1:]...)
	child.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return child
}

// rooted is a command that root runs.
func rooted(command ...string) *exec.Cmd {
	if os.Geteuid() != 0 {
		command = append([]string{"sudo", "-n"}, command...)
	}
	return exec.Command(command[0], command[1:]...)
}

func asRoot(command ...string) error {
	if out, err := rooted(command...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: run this test as root, or where sudo wants no password: %w: %s", command[0], err, out)
	}
	return nil
}

// program is this test's program in a place where everybody may run it.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "socket")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "test")
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer func() { _ = self.Close() }()
	binary, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(binary, self)
	return path, errors.Join(err, binary.Close(), os.Chmod(path, 0o755), os.Chmod(dir, 0o755))
})

// request spells a request of pamhelper.
func request(user, secret string) string {
	var out strings.Builder
	if _, err := (&wire.Request{Login: []byte(user), Secret: []byte(secret), Service: []byte("irods")}).WriteTo(&out); err != nil {
		panic(err)
	}
	return out.String()
}

// converse sends bytes, and returns all that comes back until the other side
// ends.
func converse(conn net.Conn, bytes string) (string, error) {
	defer func() { _ = conn.Close() }()
	err := conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err == nil && bytes != "" {
		_, err = io.WriteString(conn, bytes)
	}
	reply, failed := io.ReadAll(conn)
	return string(reply), errors.Join(err, failed)
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchange asks at the path and returns all bytes of the answer.
func exchange(t *testing.T, path, bytes string) string {
	t.Helper()
	reply, err := converse(dial(t, path), bytes)
	if err != nil {
		t.Error(err)
	}
	return reply
}

const yes = "\x00\x02OK"

func no(reason string) string { return string(wire.EncodeReply(false, reason)) }

// folder is short enough for a socket, and open to every user.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rejected scrapes the counter of connections that got no verdict.
func rejected(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "tokend_connections_rejected_total" {
			t.Errorf("there is a metric %s", family.GetName())
			continue
		}
		for _, metric := range family.GetMetric() {
			counts[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
		}
	}
	return counts
}

// eventually waits until the condition holds, for at most ten seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for begun := time.Now(); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
