package socket

import (
	"encoding/binary"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// admit gives a socket file, which is the daemon's own, the access rules (ACL) by
// which nobody but root, its owner and the peers can connect. Where the file system
// has no such rules, all can, and only then are asked who they are.
func (p Peers) admit(path string) error {
	mode := os.FileMode(0o666)
	if p.Only(0, uint32(os.Geteuid())) { // who needs no rule
		p, mode = Peers{}, 0o600
	}
	if err := unix.Lsetxattr(path, "system.posix_acl_access", p.rules(), 0); err == nil {
		return nil
	}
	return os.Chmod(path, mode)
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
