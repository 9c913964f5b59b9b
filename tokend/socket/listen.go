package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mode is the mode of a socket file for these peers: where only root and the
// daemon's own user may ask, nobody else can even connect.
func (p Peers) Mode() os.FileMode {
	if p.Only(0, uint32(os.Geteuid())) {
		return 0o600
	}
	return 0o666
}

// Listener is a socket that listens, and its file. It never touches a file that
// has taken its own's place.
type Listener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
	own  bool // made by Listen; else somebody else's, to be left as it is
}

// maxQueue is how many connections may wait to be accepted. Each is soon turned away
// or answered; where the system allows more, strangers could fill the queue with more
// than can be turned away while a helper waits behind them.
const maxQueue = 4096

// Adopt takes over a listener that somebody else made, such as systemd.
func Adopt(l *net.UnixListener) (*Listener, error) {
	path := l.Addr().String()
	if err := checkKind(l); err != nil {
		return nil, fmt.Errorf("%s is no Unix stream socket that listens: its socket unit needs ListenStream= and Accept=no: %w", path, err)
	}
	limitQueue(l)
	refuseRights(l)
	file, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("look at the socket: %w", err)
	}
	return &Listener{UnixListener: l, path: path, file: file}, nil
}

// checkKind refuses what only looks like a listener, and would answer nobody.
func checkKind(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var kind, listens int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if kind, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); failed == nil {
			listens, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if kind != unix.SOCK_STREAM {
		return errors.New("it takes packets")
	}
	if listens == 0 {
		return errors.New("it is a connection")
	}
	return nil
}

// limitQueue has the socket listen again, which sets how long its queue may be,
// whatever Backlog= was. Where that is refused, it is as long as before.
func limitQueue(l *net.UnixListener) {
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Listen(int(fd), maxQueue) })
	}
}

// InPlace says what is wrong when the file was removed or replaced, so that
// nobody can connect any more.
func (l *Listener) InPlace() error {
	if file, err := os.Lstat(l.path); err != nil || !os.SameFile(file, l.file) {
		return fmt.Errorf("%s was removed or replaced; restart tokend to have it back", l.path)
	}
	return nil
}

// LetIn gives the file the mode for these peers, if it is Listen's. Of another's it is
// an error that only its owner and root can connect, and there are others among them.
func (l *Listener) LetIn(peers Peers) error {
	if err := l.InPlace(); err != nil {
		return err
	}
	if l.own {
		return os.Chmod(l.path, peers.Mode())
	}
	info, err := os.Lstat(l.path)
	if err != nil {
		return err
	}
	const connect = 0o022 // for others than the owner, who can write to it
	owner := info.Sys().(*syscall.Stat_t).Uid
	if has := info.Mode().Perm(); has&connect == 0 && !peers.Only(0, owner) {
		return fmt.Errorf("%s has mode %o, so that only its owner (uid %d) and root can connect: SocketMode=0666 in its socket unit would let all in", l.path, has, owner)
	}
	return nil
}

// Close ends the listening, and removes the file if it is Listen's.
func (l *Listener) Close() error {
	if l.own && l.InPlace() == nil {
		_ = os.Remove(l.path) // one that stays is seen to be dead by the next
	}
	defer unstick()() // it closes what waits in the queue
	return l.UnixListener.Close()
}

// Listen makes a socket file that has its mode from birth. A file in its place
// is replaced only if it is a socket that nobody listens on; the folder is made
// if it is missing.
func Listen(ctx context.Context, path string, mode os.FileMode) (*Listener, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w; make it (mode 755) for the user with uid %d, "+
			"or have systemd do it (RuntimeDirectory=)", err, os.Geteuid())
	}
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	made, err := listen(ctx, path, mode)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w; give its folder to the user with uid %d (chown)", err, os.Geteuid())
	}
	if err != nil {
		return nil, err // it names the path
	}
	listener, err := Adopt(made.(*net.UnixListener))
	if err != nil {
		return nil, errors.Join(err, made.Close())
	}
	listener.SetUnlinkOnClose(false)
	listener.own = true
	return listener, nil
}

var umask sync.Mutex // of one at a time

// listen makes the file. On Linux it has every permission but for the umask, which is
// the whole process's: what else is made just then says its own mode.
func listen(ctx context.Context, path string, mode os.FileMode) (net.Listener, error) {
	umask.Lock()
	defer umask.Unlock()
	defer syscall.Umask(syscall.Umask(int(0o777 &^ mode.Perm())))
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

// makeFolder makes a folder that is missing such that peers get through it,
// whatever the umask.
func makeFolder(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	const mode = 0o755
	if err := os.Mkdir(path, mode); err != nil {
		if errors.Is(err, fs.ErrExist) { // somebody was faster
			return nil
		}
		return err
	}
	return os.Chmod(path, mode)
}

func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the socket's place: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way and is no socket: move it away, or set another path in tokend.toml", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("somebody listens on %s: is tokend running already?", path), conn.Close())
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("see whether anybody listens on %s: %w; if nobody does, remove it, it is another user's", path, err)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("see whether anybody listens on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove a dead socket: %w; remove it yourself, or run tokend as its owner", err)
	}
	return nil
}
