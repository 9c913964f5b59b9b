package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
	restrain(l)
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

// restrain limits what callers may do to a socket that somebody else made. It listens
// again, which sets how long its queue may be, whatever Backlog= was. Where that is
// refused, all is as before.
func restrain(l *net.UnixListener) {
	if raw, err := l.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			refuseRights(int(fd))
			_ = unix.Listen(int(fd), maxQueue)
		})
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

// LetIn gives the file the rules for these peers, if it is Listen's. Of another's it is
// an error that only its owner and root can connect, and there are others among them.
// That strangers can connect to either is an error that wraps ErrOpen.
func (l *Listener) LetIn(peers Peers) error {
	if err := l.InPlace(); err != nil {
		return err
	}
	if l.own {
		return peers.admit(l.path, l.file)
	}
	info, err := os.Lstat(l.path)
	if err != nil {
		return err
	}
	const connect = 0o022 // for others than the owner, who can write to it
	owner := info.Sys().(*syscall.Stat_t).Uid
	if has := info.Mode().Perm(); has&connect == 0 && !peers.Only(0, owner) {
		return fmt.Errorf("%s has mode %o, so that only its owner (uid %d) and root can connect: SocketGroup= and SocketMode=0660 in its socket unit would let a group in", l.path, has, owner)
	} else if has&0o002 != 0 {
		return fmt.Errorf("%w: %s has mode %o; SocketGroup= and SocketMode=0660 in its socket unit would keep strangers away", ErrOpen, l.path, has)
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

// Listen makes a socket file to which only root and the peers can connect, from birth.
// A file in its place is replaced only if it is a socket that nobody listens on; the
// folder is made if it is missing.
func Listen(ctx context.Context, path string, peers Peers) (*Listener, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("make the folder of the socket: %w; make it (mode 755) for the user with uid %d, "+
			"or have systemd do it (RuntimeDirectory=)", err, os.Geteuid())
	}
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	made, err := listen(path, peers)
	if err != nil {
		err = fmt.Errorf("listen on %s: %w", path, err)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; give its folder to the user with uid %d (chown)", err, os.Geteuid())
		}
		return nil, err
	}
	listener, err := Adopt(made)
	if err != nil {
		return nil, errors.Join(err, made.Close())
	}
	listener.own = true
	return listener, nil
}

// listen makes the file, which is the owner's alone until it has its rules. A peer who
// is kept out by then, or finds that nobody listens yet, asks again.
func listen(path string, peers Peers) (*net.UnixListener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer func() { _ = file.Close() }() // the listener has its own descriptor
	refuseRights(fd)
	if err := unix.Fchmod(fd, 0o600); err != nil { // which bind gives to the file
		return nil, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := peers.admit(path, nil); err != nil && !errors.Is(err, ErrOpen) { // of that, LetIn tells
		return nil, err
	}
	if err := unix.Listen(fd, maxQueue); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	return listener.(*net.UnixListener), nil
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
	// The umask is the whole process's: what else is made just then says its own mode.
	before := syscall.Umask(0o777 &^ mode)
	err := os.Mkdir(path, mode)
	syscall.Umask(before)
	if errors.Is(err, fs.ErrExist) { // somebody was faster
		return nil
	}
	if err != nil {
		return err
	}
	folder, err := openOwn(path, fs.ModeDir, nil)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }()
	if info, err := folder.Stat(); err != nil || info.Mode().Perm() == mode {
		return err
	}
	return os.Chmod(linkTo(folder), mode) // the folder above hands on rules that go before the umask
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
