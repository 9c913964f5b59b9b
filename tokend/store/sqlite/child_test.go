package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

const (
	roleVariable = "TOKEND_TEST_ROLE" // what a child process is to do
	pathVariable = "TOKEND_TEST_PATH" // and with which file
)

// TestMain is also the main function of the child processes.
func TestMain(m *testing.M) {
	path := os.Getenv(pathVariable)
	switch role := os.Getenv(roleVariable); role {
	case "":
		os.Exit(m.Run())
	case "work":
		work(path)
	case "hold":
		hold(path)
	case "stray":
		stray(path)
	case "shell":
		keepReading(path)
	case "block readers":
		blockReaders(path)
	default:
		panic("unknown role " + role)
	}
}

// work mints and revokes until it is killed. What has been acknowledged it says
// on stdout, a line each, written at once.
func work(path string) {
	fmt.Println("started")
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	check(err)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for i := 0; ; i++ {
				r := newRecord()
				check(s.Mint(context.Background(), r, token.Quota{}, created))
				fmt.Println("minted", r.ID)
				if i%2 == 1 {
					_, err := s.Revoke(context.Background(), token.Selection{ID: r.ID}, now, revoked)
					check(err)
					fmt.Println("revoked", r.ID)
				}
			}
		})
	}
	group.Wait()
}

// hold keeps the database open until stdin ends.
func hold(path string) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	check(err)
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	check(s.Close())
}

// stray mints, tries it again when stdin ends, and closes the database.
func stray(path string) {
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: path})
	check(err)
	for range 5 {
		check(s.Mint(context.Background(), newRecord(), token.Quota{}, created))
	}
	fmt.Println("minted")
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println(s.Mint(context.Background(), newRecord(), token.Quota{}, created))
	fmt.Println(s.Close())
}

// keepReading is a program that is no daemon, in the middle of its reading, until stdin
// ends.
func keepReading(path string) {
	db, err := sql.Open("sqlite", path)
	check(err)
	tx, err := db.BeginTx(context.Background(), nil)
	check(err)
	var users int
	check(tx.QueryRowContext(context.Background(), `SELECT count(*) FROM users`).Scan(&users))
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
	check(errors.Join(tx.Rollback(), db.Close()))
}

// blockReaders locks the bytes of the -shm file that SQLite's readers lock, and
// so makes them wait, until stdin ends.
func blockReaders(path string) {
	file, err := os.OpenFile(path+"-shm", os.O_RDWR, 0)
	check(err)
	readLocks := syscall.Flock_t{Type: syscall.F_WRLCK, Start: 123, Len: 5} // "WAL_READ_LOCK(0)" to (4)
	check(syscall.FcntlFlock(file.Fd(), syscall.F_SETLK, &readLocks))
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	check(file.Close()) // a file that nothing refers to is closed early, and its locks are gone
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// child is another process of this program.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
	stdin io.Closer
}

func startChild(t *testing.T, role, path string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := child{cmd, bufio.NewReader(stdout), stdin}
	t.Cleanup(func() { c.kill() })
	return c
}

// line returns the next line that the child writes, without its end. A line
// that was cut by the child's death is none.
func (c child) line() (string, bool) {
	line, err := c.lines.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil
}

// kill is kill -9. What the child wrote before can still be read.
func (c child) kill() { _ = c.cmd.Process.Kill() }

// anew runs the test again in a process of its own, by way of a command if one is
// given, and tells whether this is that process.
func anew(t *testing.T, attributes *syscall.SysProcAttr, by ...string) bool {
	t.Helper()
	if os.Getenv(pathVariable) == t.Name() {
		return true
	}
	args := slices.Concat(by, []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"})
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), pathVariable+"="+t.Name())
	cmd.SysProcAttr = attributes
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Fatalf("this test needs a process of its own: %v\n%s", err, output)
	}
	return false
}

// withOwnMounts tells whether this is a process that can mount and unmount without
// anybody noticing, and runs the test in one if it isn't.
func withOwnMounts(t *testing.T) bool {
	t.Helper()
	by := []string{"unshare", "--mount", "--propagation", "private"}
	if os.Getuid() != 0 && os.Getenv(pathVariable) == "" {
		by = slices.Concat([]string{"sudo", "-n"}, by, []string{"env", pathVariable + "=" + t.Name()})
	}
	return anew(t, nil, by...)
}

// withoutPrivileges does the same for one that has none over files.
func withoutPrivileges(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return true
	}
	return anew(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: 0, Size: 1}},
	})
}
