package socket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tokend/tokend/socket"
)

func listen(t *testing.T, path string) *socket.Listener {
	t.Helper()
	listener, err := socket.Listen(t.Context(), path, socket.Peers{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestADeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	dead := listen(t, path)
	if err := dead.UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	listener := listen(t, path)
	mustConnect(t, listener, path)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the file is left behind")
	}
}

func TestALiveSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	live := listen(t, path)
	if err := live.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(t.Context(), path, socket.Peers{}); err == nil || !strings.Contains(err.Error(), "is tokend running already?") {
		t.Errorf("got %v", err)
	}
	if _, err := live.Accept(); err != nil { // the look whether it lives
		t.Fatal(err)
	}
	mustConnect(t, live, path)
}

func TestASocketWithAFullQueueIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	dial(t, path)
	before := mustStat(t, path)
	if _, err := socket.Listen(t.Context(), path, socket.Peers{}); err == nil {
		t.Error("it was replaced")
	}
	if !os.SameFile(before, mustStat(t, path)) {
		t.Error("another file stands in its place")
	}
}

func TestWhatIsNoDeadSocketIsLeftAlone(t *testing.T) {
	dir := folder(t)
	dead := filepath.Join(dir, "dead")
	listener := listen(t, dead)
	if err := listener.UnixListener.Close(); err != nil {
		t.Fatal(err)
	}
	const inTheWay = "is in the way and is no socket"
	for _, row := range []struct {
		name string
		put  func(path string) error
		want string
	}{
		{"a file", func(path string) error { return os.WriteFile(path, []byte("kept"), 0o600) }, inTheWay},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, inTheWay},
		{"a symlink to a dead socket", func(path string) error { return os.Symlink(dead, path) }, inTheWay},
		{"a symlink to nothing", func(path string) error { return os.Symlink("nothing", path) }, inTheWay},
		{"a pipe", func(path string) error { return unix.Mkfifo(path, 0o600) }, inTheWay},
		{"a socket for datagrams", func(path string) error {
			packets, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
			if err == nil {
				t.Cleanup(func() { _ = packets.Close() })
			}
			return err
		}, "see whether anybody listens on"},
	} {
		path := filepath.Join(dir, row.name)
		if err := row.put(path); err != nil {
			t.Fatal(err)
		}
		before := mustStat(t, path)
		if _, err := socket.Listen(t.Context(), path, socket.Peers{}); err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", row.name, err)
		}
		after := mustStat(t, path)
		if !os.SameFile(before, after) || before.Mode() != after.Mode() || before.Size() != after.Size() {
			t.Errorf("%s: was %v, is %v", row.name, before, after)
		}
	}
	mustStat(t, dead)
}

func TestTheFolderIsMade(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(folder(t), "a", "b", "s")
	mustConnect(t, listen(t, path), path)
	if mode := mustStat(t, filepath.Dir(path)).Mode(); mode&0o022 != 0 || mode&0o500 != 0o500 {
		t.Errorf("its mode is %v", mode)
	}
}

func TestAPlaceWhereNoSocketCanBeIsNamed(t *testing.T) {
	dir := folder(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a folder that is a file": filepath.Join(file, "s"),
		"too long":                filepath.Join(dir, strings.Repeat("x", 108)),
	} {
		if _, err := socket.Listen(t.Context(), path, socket.Peers{}); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func mustConnect(t *testing.T, listener net.Listener, path string) {
	t.Helper()
	client := dial(t, path)
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := server.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func mustStat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestPeersGetThroughAFolderThatIsMade: the umask of a careful admin would keep
// them out.
func TestPeersGetThroughAFolderThatIsMade(t *testing.T) {
	above := filepath.Join(folder(t), "run")
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	listen(t, filepath.Join(above, "tokend", "s"))
	for _, path := range []string{above, filepath.Join(above, "tokend")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if err := os.Chmod(above, 0o700); err != nil {
		t.Fatal(err)
	}
	listen(t, filepath.Join(above, "other"))
	if info, err := os.Stat(above); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a folder that was there has now the mode %v (%v)", info.Mode(), err)
	}
}

// TestWhatTookASocketsPlaceIsLeftAlone: an admin moved the file, or the next
// daemon made its own there.
func TestWhatTookASocketsPlaceIsLeftAlone(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	listener := listen(t, path)
	if err := listener.InPlace(); err != nil {
		t.Errorf("in its place: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := listener.InPlace(); err == nil || !strings.Contains(err.Error(), "was removed or replaced") {
		t.Errorf("removed: got %v", err)
	}
	next := listen(t, path)
	if err := listener.LetIn(peersOf("64001")); err == nil {
		t.Error("it set the mode of another's")
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the other's has mode %v (%v)", info, err)
	}
	mustConnect(t, next, path)
}

// TestOnlyAStreamSocketThatListensIsTakenOver: systemd's ListenSequentialPacket=
// and Accept=yes pass what Go takes for a listener, and what answers nobody.
func TestOnlyAStreamSocketThatListensIsTakenOver(t *testing.T) {
	path := filepath.Join(folder(t), "packets")
	packets, err := net.Listen("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	refused(t, packets, path, "it takes packets")

	path = filepath.Join(folder(t), "s")
	listener := listen(t, path)
	caller, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	file, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	connected, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	refused(t, connected, path, "it is a connection")
}

func refused(t *testing.T, listener net.Listener, words ...string) {
	t.Helper()
	_, err := socket.Adopt(listener.(*net.UnixListener))
	for _, word := range append(words, "ListenStream= and Accept=no") {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

// TestASocketThatWasPassedIsLeftAsItIs: systemd made it, and will pass it again.
func TestASocketThatWasPassedIsLeftAsItIs(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	made := listen(t, path)
	passed, err := socket.Adopt(made.UnixListener)
	if err != nil {
		t.Fatal(err)
	}
	if err := passed.InPlace(); err != nil {
		t.Error(err)
	}
	own := strconv.Itoa(os.Geteuid())
	const right, closed, wide = "right", "keeps peers out", "lets strangers connect"
	for _, row := range []struct {
		has   fs.FileMode
		peers []string
		state string
	}{
		{0o600, []string{"root", own}, right}, {0o600, []string{"64001"}, closed}, {0o644, []string{"64001"}, closed},
		{0o755, []string{"@64001"}, closed}, {0o660, []string{"64001"}, right}, {0o602, []string{"64001"}, wide},
		{0o666, []string{"64001"}, wide}, {0o666, []string{"root"}, wide},
	} {
		if err := os.Chmod(path, row.has); err != nil {
			t.Fatal(err)
		}
		got, err := right, passed.LetIn(peersOf(row.peers...))
		if err != nil {
			got = closed
		}
		if errors.Is(err, socket.ErrOpen) {
			got = wide
		}
		if got != row.state || err != nil && !strings.Contains(err.Error(), "SocketGroup= and SocketMode=0660 in its socket unit") {
			t.Errorf("%o, for %q: got %v", row.has, row.peers, err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != row.has {
			t.Errorf("its mode is %v (%v)", info.Mode(), err)
		}
	}
	// SocketUser= of the only peer that is not root, and of one of two.
	if err := errors.Join(os.Chmod(path, 0o600), asRoot("chown", "64001", path), passed.LetIn(peersOf("root", "64001"))); err != nil {
		t.Error(err)
	}
	if err := passed.LetIn(peersOf("64001", "64002")); err == nil || !strings.Contains(err.Error(), "only its owner (uid 64001) and root can connect") {
		t.Errorf("got %v", err)
	}
	if err := passed.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func peersOf(names ...string) socket.Peers {
	peers, _ := socket.ResolvePeers(names)
	return peers
}
