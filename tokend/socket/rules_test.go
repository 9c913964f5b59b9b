package socket_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/socket"
)

// knock connects again and again until the standard input ends, at least once, and
// says what came of it: how often it got in, and how often the file's rules kept it
// out. That nobody listens is neither.
func knock(path string) (said string) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	in, out := 0, 0
	for over := false; !over; {
		conn, err := net.Dial("unix", path)
		switch {
		case err == nil:
			in++
			_ = conn.Close()
		case errors.Is(err, fs.ErrPermission):
			out++
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EAGAIN):
			return err.Error()
		}
		select {
		case <-ended:
			over = true
		default:
		}
	}
	return fmt.Sprint(in, " ", out)
}

func counts(t *testing.T, knocked string) (in, out int) {
	t.Helper()
	if _, err := fmt.Sscan(knocked, &in, &out); err != nil {
		t.Fatalf("%q: %v", knocked, err)
	}
	return in, out
}

// While a socket is made, many times over, a peer is never kept out, and a stranger
// gets in only by looking at the mode just before it has its rules, and connecting just
// after: that is for the guard.
func TestASocketHasItsRulesFromBirth(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	for _, umask := range []int{0, 0o077, 0o777} {
		var said [2]strings.Builder
		var ends []func() error
		for i, who := range []asker{{64001, 64001, nil}, {64002, 64002, nil}} {
			child := who.runs(t, "knock", path)
			child.Stdout, child.Stderr = &said[i], os.Stderr
			stdin, err := child.StdinPipe()
			if err == nil {
				err = child.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, func() error { return errors.Join(stdin.Close(), child.Wait()) })
		}
		before := syscall.Umask(umask)
		for range 300 {
			listener, err := socket.Listen(t.Context(), path, peersOf("64001"))
			if err != nil {
				t.Error(err)
				break
			}
			time.Sleep(time.Millisecond) // while it listens
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
		}
		syscall.Umask(before)
		for _, end := range ends {
			if err := end(); err != nil {
				t.Fatalf("this test asks as other users: run it as root, or where sudo wants no password: %v", err)
			}
		}
		if in, out := counts(t, said[0].String()); in == 0 || out > 0 {
			t.Errorf("umask %03o: the peer was in %d times, kept out %d times", umask, in, out)
		}
		if in, out := counts(t, said[1].String()); out < 1000 || in > out/1000 {
			t.Errorf("umask %03o: the stranger was in %d times, kept out %d times", umask, in, out)
		}
	}
}

func TestTheRulesFollowThePeers(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	listener := listen(t, path)
	own := strconv.Itoa(os.Geteuid())
	many := make([]string, 0, 400)
	for i := range 200 {
		many = append(many, strconv.Itoa(65200-i), "@"+strconv.Itoa(65200-i))
	}
	const in, out = true, false
	for _, row := range []struct {
		name  string
		peers []string
		asker asker
		want  bool
		mode  fs.FileMode
	}{
		{"nobody may", nil, asker{64001, 64001, nil}, out, 0o600},
		{"root alone", []string{"root"}, asker{64001, 64001, nil}, out, 0o600},
		{"the daemon's user as well", []string{"root", own}, asker{64001, 64001, nil}, out, 0o600},
		{"by user", []string{"64001"}, asker{64001, 64002, nil}, in, 0o660},
		{"another user", []string{"64001"}, asker{64003, 64002, nil}, out, 0o660},
		{"by group", []string{"@64002"}, asker{64001, 64002, nil}, in, 0o660},
		{"another group", []string{"@64002"}, asker{64001, 64003, nil}, out, 0o660},
		{"by supplementary group", []string{"@64005"}, asker{64001, 64002, []int{64004, 64005}}, in, 0o660},
		{"user and group mixed up", []string{"64002", "@64001"}, asker{64001, 64002, nil}, out, 0o660},
		{"the socket's own group is none of them", []string{"64001"}, asker{64003, os.Getegid(), nil}, out, 0o660},
		{"one of many", many, asker{65001, 64001, nil}, in, 0o660},
		{"none of many", many, asker{65000, 65000, nil}, out, 0o660},
		{"nobody may any more", nil, asker{65001, 65001, nil}, out, 0o600},
	} {
		if err := listener.LetIn(peersOf(row.peers...)); err != nil {
			t.Fatal(err)
		}
		got, err := row.asker.runs(t, "knock", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if in, out := counts(t, string(got)); (in > 0) != row.want || (out > 0) == row.want {
			t.Errorf("%s: in %d times, kept out %d times, want %v", row.name, in, out, row.want)
		}
		if mode := mustStat(t, path).Mode().Perm(); mode != row.mode {
			t.Errorf("%s: mode %v, want %v", row.name, mode, row.mode)
		}
	}
}

// Where the file system knows no access rules, the guard alone keeps strangers out.
func TestWithoutAccessRulesTheModeLetsPeersIn(t *testing.T) {
	dir := folder(t)
	if err := asRoot("mount", "-t", "ramfs", "ramfs", dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := asRoot("umount", "--lazy", dir); err != nil {
			t.Error(err)
		}
	})
	if err := asRoot("chmod", "777", dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	for _, row := range []struct {
		peer string
		want fs.FileMode
	}{{"64001", 0o666}, {"root", 0o600}} {
		listener, err := socket.Listen(t.Context(), path, peersOf(row.peer))
		if err != nil {
			t.Fatal(err)
		}
		if mode := mustStat(t, path).Mode().Perm(); mode != row.want {
			t.Errorf("for %s: mode %v, want %v", row.peer, mode, row.want)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
}
