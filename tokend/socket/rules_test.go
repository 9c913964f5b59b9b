package socket_test

import (
	"context"
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

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/pamhelper/wire"
	"tokend/tokend/socket"
)

// knock connects again and again until the standard input ends, at least once, and
// says what came of it: how often it got in, and how often the file's rules kept it
// out. That nobody listens is neither.
func knock(path string) (said string) {
	ended := inputEnds()
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

func inputEnds() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return ended
}

func counts(t *testing.T, knocked string) (in, out int) {
	t.Helper()
	if _, err := fmt.Sscan(knocked, &in, &out); err != nil {
		t.Fatalf("%q: %v", knocked, err)
	}
	return in, out
}

// helper asks as pamhelper does, again and again, and counts as knock does.
func helper(path string) (said string) {
	ended := inputEnds()
	in, out := 0, 0
	for over := false; !over; {
		var reply wire.Reply
		request := wire.Request{Login: []byte("alice"), Secret: []byte("right"), Service: []byte("irods")}
		switch wire.Ask(path, &request, &reply, wire.Now()+int64(20*time.Second)) {
		case wire.Answered:
			in++
		case wire.NoSocket: // between the tests
		default:
			out++
		}
		select {
		case <-ended:
			over = true
		default:
		}
	}
	return fmt.Sprint(in, " ", out)
}

// While a socket is made, many times over, a stranger never gets in, and every peer
// is answered, whatever the umask and the rules that its folder hands on.
func TestASocketHasItsRulesFromBirth(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "s")
	closed := closedToOthers()
	for _, row := range []struct {
		umask int
		rules []byte
	}{{0, nil}, {0o077, nil}, {0o777, nil}, {0, closed}} {
		if row.rules != nil {
			if err := unix.Setxattr(dir, "system.posix_acl_default", row.rules, 0); err != nil {
				t.Fatal(err)
			}
		}
		peer, stranger := asker{64001, 64001, nil}.begins(t, "helper", path), asker{64002, 64002, nil}.begins(t, "knock", path)
		before := syscall.Umask(row.umask)
		for range 100 {
			listener, err := socket.Listen(t.Context(), path, peersOf("64001"))
			if err != nil {
				t.Error(err)
				break
			}
			s := &serving{registry: prometheus.NewRegistry(), log: &syncBuffer{}}
			ctx, stop := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Millisecond, stop)
			if err := s.server(0, alice).Serve(ctx, listener); err != nil {
				t.Error(err)
			}
		}
		syscall.Umask(before)
		if in, out := counts(t, peer()); in == 0 || out > 0 {
			t.Errorf("%+v: the peer was answered %d times, and refused %d times", row, in, out)
		}
		if in, out := counts(t, stranger()); in > 0 || out == 0 {
			t.Errorf("%+v: the stranger was in %d times, kept out %d times", row, in, out)
		}
	}
}

// closedToOthers is a default ACL of nothing but for the owner, see rules.go.
func closedToOthers() []byte {
	rules := []byte{2, 0, 0, 0}
	for _, rule := range [][2]byte{{0x01, 7}, {0x04, 0}, {0x20, 0}} {
		rules = append(rules, rule[0], 0, rule[1], 0, 0xff, 0xff, 0xff, 0xff)
	}
	return rules
}

func TestAFolderIsOpenWhateverTheOneAboveHandsOn(t *testing.T) {
	dir := folder(t)
	if err := unix.Setxattr(dir, "system.posix_acl_default", closedToOthers(), 0); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o027))
	path := filepath.Join(dir, "made", "s")
	listen(t, path)
	if mode := mustStat(t, filepath.Dir(path)).Mode().Perm(); mode != 0o755 {
		t.Errorf("the folder has mode %v", mode)
	}
	if now := syscall.Umask(0o027); now != 0o027 {
		t.Errorf("the umask is now %03o", now)
	}
}

// begins runs the program until end is called, which returns what it said.
func (a asker) begins(t *testing.T, name, path string) (end func() (said string)) {
	t.Helper()
	child := a.runs(t, name, path)
	var said strings.Builder
	child.Stdout, child.Stderr = &said, os.Stderr
	stdin, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		t.Helper()
		if err := errors.Join(stdin.Close(), child.Wait()); err != nil {
			t.Fatalf("this test asks as other users: run it as root, or where sudo wants no password: %v", err)
		}
		return said.String()
	}
}

// Who may write to the folder can put another file, or a link to one, in the place of
// the socket: that is left as it is.
func TestOnlyTheSocketItselfIsGivenRules(t *testing.T) {
	dir := folder(t)
	victim, other, path := filepath.Join(dir, "victim"), filepath.Join(dir, "other"), filepath.Join(dir, "s")
	listen(t, other)
	for name, replace := range map[string]func() error{
		"a link":                   func() error { return os.Symlink(victim, path) },
		"a file":                   func() error { return os.WriteFile(path, nil, 0o600) },
		"a link to another socket": func() error { return os.Symlink(other, path) },
	} {
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(victim, nil, 0o600), replace()); err != nil {
			t.Fatal(err)
		}
		if err := socket.Admit(peersOf("64001"), path, nil); err == nil || errors.Is(err, socket.ErrOpen) {
			t.Errorf("%s: got %v", name, err)
		}
		for _, file := range []string{victim, other, path} {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s has mode %v (%v)", name, file, info.Mode(), err)
			}
		}
	}
	// Another of ours is not the one that is meant, and one of somebody else's is none of ours.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	listen(t, path)
	if err := socket.Admit(peersOf("64001"), path, mustStat(t, other)); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("another of ours: got %v", err)
	}
	if err := socket.Admit(peersOf("64001"), path, mustStat(t, path)); err != nil {
		t.Errorf("itself: got %v", err)
	}
	if err := asRoot("chown", "64001", path); err != nil {
		t.Fatal(err)
	}
	if err := socket.Admit(peersOf("64001"), path, nil); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("another's: got %v", err)
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
		if err := listener.LetIn(peersOf(row.peer)); errors.Is(err, socket.ErrOpen) != (row.want == 0o666) {
			t.Errorf("for %s: got %v", row.peer, err)
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
}

// One peer whom a user namespace has no number for would have the kernel refuse the
// rules for all.
func TestPeersWithoutANumberHereAreLeftOut(t *testing.T) {
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for peer, known := range map[string]bool{"7": true, "@8": true, "6": false, "@7": false, "8": false, "@9": false, "64001": false, "@64001": false} {
		want := "[]"
		if !known {
			want = "[" + peer + " (has no number in this user namespace)]"
		}
		out, err := rooted("unshare", "--user", "--map-user=7", "--map-group=8", binary, "left out", peer).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: %s, %v; want %s", peer, out, err, want)
		}
		if _, leftOut := socket.ResolvePeers([]string{peer}); leftOut != nil {
			t.Errorf("outside: left out %q", leftOut)
		}
	}
}
