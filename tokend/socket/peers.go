// Package socket is the server of the auth socket, and what tokend's Unix
// sockets have in common: they are born with their access rules, they replace only what
// is dead, and they serve only the peers that the kernel vouches for.
package socket

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a Unix socket, by the kernel's word at the
// time of the connect.
type Peer struct {
	PID      int32
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// String is how logs and the audit trail name a peer: "uid=0(root)".
func (p Peer) String() string {
	id := strconv.FormatUint(uint64(p.UID), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("uid=%s(%s)", id, u.Username)
	}
	return "uid=" + id
}

// PeerOf asks the kernel who is at the other end. With an error comes a Peer whom
// no Peers can allow: the zero Peer is root.
func PeerOf(conn *net.UnixConn) (Peer, error) {
	unknown := Peer{UID: nobody, GID: nobody}
	raw, err := conn.SyscallConn()
	if err != nil {
		return unknown, fmt.Errorf("ask who is calling: %w", err)
	}
	var peer Peer
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		peer = Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}
		peer.Groups, failed = peerGroups(fd)
	})
	if err := errors.Join(err, failed); err != nil {
		return unknown, fmt.Errorf("ask who is calling: %w", err)
	}
	return peer, nil
}

// peerGroups is getsockopt(SO_PEERGROUPS), which the library doesn't have. The
// kernel says how many there are when the buffer is too small.
func peerGroups(fd uintptr) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			return groups[:size/4], nil
		}
		if errno != unix.ERANGE || int(size/4) <= len(groups) {
			return nil, errno
		}
		groups = make([]uint32, size/4)
	}
}

// Peers is who may ask. The zero Peers is nobody.
type Peers struct {
	uids map[uint32]bool
	gids map[uint32]bool
}

// nobody is the user and the group that the kernel names where a caller's own
// have no number here, as in another user namespace. Who that is nobody knows.
const nobody = 65534

// ResolvePeers turns names, @groups and numbers into Peers. A name that this
// machine doesn't know is left out and returned, with the reason: it may not be
// there yet. So is what stands for many, the user nobody and the group nogroup, and
// whom this user namespace has no number for.
func ResolvePeers(names []string) (peers Peers, leftOut []string) {
	peers = Peers{uids: map[uint32]bool{}, gids: map[uint32]bool{}}
	for _, name := range names {
		set, find, spelled, file := peers.uids, findUser, name, "/proc/self/uid_map"
		if group, ok := strings.CutPrefix(name, "@"); ok {
			set, find, spelled, file = peers.gids, findGroup, group, "/proc/self/gid_map"
		}
		id, err := find(spelled)
		switch {
		case err != nil:
			leftOut = append(leftOut, name+" (not known on this machine)")
		case id == nobody:
			leftOut = append(leftOut, name+" (stands for many)")
		case !mapped(file, id):
			leftOut = append(leftOut, name+" (has no number in this user namespace)")
		default:
			set[id] = true
		}
	}
	return peers, leftOut
}

func findUser(name string) (uint32, error) {
	if isNumber(name) {
		return parseID(name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return parseID(u.Uid)
}

func findGroup(name string) (uint32, error) {
	if isNumber(name) {
		return parseID(name)
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return parseID(g.Gid)
}

func parseID(digits string) (uint32, error) {
	id, err := strconv.ParseUint(digits, 10, 32)
	return uint32(id), err
}

// mapped reports whether the kernel knows the ID here, by the map in the file (see
// user_namespaces(7)). Nobody calls with another one, and no access rule may name it.
func mapped(file string, id uint32) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return true // nobody can say
	}
	for line := range strings.Lines(string(text)) {
		var first, outside, count uint64
		if n, _ := fmt.Sscan(line, &first, &outside, &count); n == 3 && uint64(id) >= first && uint64(id) < first+count {
			return true
		}
	}
	return false
}

// Allow reports whether the peer is one of them, by its user or any of its
// groups.
func (p Peers) Allow(peer Peer) bool {
	if p.uids[peer.UID] || p.gids[peer.GID] {
		return true
	}
	return slices.ContainsFunc(peer.Groups, func(gid uint32) bool { return p.gids[gid] })
}

func (p Peers) equal(q Peers) bool { return maps.Equal(p.uids, q.uids) && maps.Equal(p.gids, q.gids) }

// Only reports whether nobody but these users is among them.
func (p Peers) Only(uids ...uint32) bool {
	known := map[uint32]bool{}
	for _, uid := range uids {
		known[uid] = true
	}
	for uid := range p.uids {
		if !known[uid] {
			return false
		}
	}
	return len(p.gids) == 0
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
