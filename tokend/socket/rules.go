package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrOpen says that strangers can connect to a socket, and only then are refused.
var ErrOpen = errors.New("everybody can connect, and only then is refused")

// admit gives a socket file, which is the daemon's own, the access rules (ACL) by
// which nobody but root, its owner and the peers can connect. Where there can be none,
// all can: then the error wraps ErrOpen. Same is as in openOwn.
func (p Peers) admit(path string, same fs.FileInfo) error {
	mode, own := fs.FileMode(0o666), uint32(os.Geteuid())
	if p.Only(0, own) { // root may do all, as a rule
		mode = 0o600
	}
	if p.Only(own) { // who needs no rule
		p = Peers{}
	}
	file, err := openOwn(path, fs.ModeSocket, same)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	refused := unix.Setxattr(linkTo(file), "system.posix_acl_access", p.rules(), 0)
	if refused == nil {
		return nil
	}
	err = os.Chmod(linkTo(file), mode)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("tokend needs /proc: mount it")
	}
	if err != nil || mode == 0o600 {
		return err
	}
	return fmt.Errorf("%w: %s can have no access rules (ACL): %w; another file system, such as that of /run, has them", ErrOpen, path, refused)
}

// rules is the ACL as the kernel reads it, see acl(5) and linux/posix_acl_xattr.h.
func (p Peers) rules() []byte {
	const (
		version                   = 2
		owner, user               = 0x01, 0x02
		owningGroup, group        = 0x04, 0x08
		mask, other               = 0x10, 0x20
		none, connect             = 0, 0o6 // to write is to connect
		nobodysNumber      uint32 = 0xffffffff
	)
	rules := binary.LittleEndian.AppendUint32(nil, version)
	rule := func(tag, permissions uint16, id uint32) {
		rules = binary.LittleEndian.AppendUint16(rules, tag)
		rules = binary.LittleEndian.AppendUint16(rules, permissions)
		rules = binary.LittleEndian.AppendUint32(rules, id)
	}
	rule(owner, connect, nobodysNumber)
	for _, uid := range slices.Sorted(maps.Keys(p.uids)) {
		rule(user, connect, uid)
	}
	rule(owningGroup, none, nobodysNumber)
	for _, gid := range slices.Sorted(maps.Keys(p.gids)) {
		rule(group, connect, gid)
	}
	if len(p.uids)+len(p.gids) > 0 {
		rule(mask, connect, nobodysNumber)
	}
	rule(other, none, nobodysNumber)
	return rules
}

// openOwn opens a file of the daemon's own and of that kind, only to change its rules.
// Whoever may write to the folder may have put another in its place, or a link to one:
// that is an error. Same, if it is known, is what the file was.
func openOwn(path string, kind fs.FileMode, same fs.FileInfo) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	info, err := file.Stat()
	if err == nil && (info.Mode().Type() != kind || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) || same != nil && !os.SameFile(info, same)) {
		err = fmt.Errorf("%s was replaced just now: who else can write to its folder?", path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// linkTo is a path to the very file that is open.
func linkTo(file *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", file.Fd()) }
