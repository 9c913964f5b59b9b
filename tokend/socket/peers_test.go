package socket_test

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/socket"
)

func TestPeersAreNamesGroupsAndNumbers(t *testing.T) {
	names := []string{}
	type peer = socket.Peer
	const in, out = true, false
	for _, row := range []struct {
		names []string
		peer  peer
		want  bool
	}{
		{names, peer{UID: 0, GID: 0}, out},
		{names, peer{UID: 1000, GID: 1000, Groups: []uint32{1000}}, out},

		{[]string{"root"}, peer{UID: 0, GID: 99}, in},
		{[]string{"0"}, peer{UID: 0, GID: 99}, in},
		{[]string{"root"}, peer{UID: 99, GID: 0, Groups: []uint32{0}}, out}, // the group is another matter
		{[]string{"@root"}, peer{UID: 0, GID: 99}, out},
		{[]string{"@root"}, peer{UID: 99, GID: 0}, in},
		{[]string{"@0"}, peer{UID: 99, GID: 0}, in},
		{[]string{"@0"}, peer{UID: 99, GID: 98, Groups: []uint32{97, 0, 96}}, in},
		{[]string{"@0"}, peer{UID: 99, GID: 98, Groups: []uint32{97, 96}}, out},

		{[]string{"64001"}, peer{UID: 64001, GID: 98}, in},
		{[]string{"064001"}, peer{UID: 64001, GID: 98}, in},
		{[]string{"64001"}, peer{UID: 64002, GID: 64001}, out},
		{[]string{"@64001"}, peer{UID: 64001, GID: 98}, out},
		{[]string{"@64001"}, peer{UID: 99, GID: 64001}, in},
		{[]string{"4294967294"}, peer{UID: 4294967294, GID: 98}, in},

		{[]string{"root", "@64001", "64002"}, peer{UID: 0, GID: 98}, in},
		{[]string{"root", "@64001", "64002"}, peer{UID: 99, GID: 98, Groups: []uint32{64001}}, in},
		{[]string{"root", "@64001", "64002"}, peer{UID: 64002, GID: 98}, in},
		{[]string{"root", "@64001", "64002"}, peer{UID: 64001, GID: 64002}, out},
	} {
		peers, leftOut := socket.ResolvePeers(row.names)
		if got := peers.Allow(row.peer); got != row.want || len(leftOut) != 0 {
			t.Errorf("%q, %+v: got %t, left out %q", row.names, row.peer, got, leftOut)
		}
	}
}

func TestNobodyIsAmongTheZeroPeers(t *testing.T) {
	var peers socket.Peers
	if peers.Allow(socket.Peer{}) || peers.Allow(socket.Peer{Groups: []uint32{0}}) {
		t.Error("root is")
	}
}

// What this machine doesn't know must not stand for anybody, least of all for
// root.
func TestAnUnknownPeerIsLeftOutAndReturned(t *testing.T) {
	unknown := []string{
		"", "@", "no such user", "@no such group", "-1", "@-1", "+0", "0x0", " root", "root ", "Root", "@@root", "root\n", "0.0",
		"4294967296", "@4294967296", "99999999999999999999999999", "٠",
	}
	many := []string{"nobody", "65534", "@nogroup", "@65534"} // who has no number here
	peers, leftOut := socket.ResolvePeers(slices.Concat(unknown, many))
	var want []string
	for _, name := range unknown {
		want = append(want, name+" (not known on this machine)")
	}
	for _, name := range many {
		want = append(want, name+" (stands for many)")
	}
	if diff := cmp.Diff(want, leftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if peers.Allow(socket.Peer{Groups: []uint32{0}}) || !peers.Only() {
		t.Error("somebody is among them")
	}
	peers, leftOut = socket.ResolvePeers([]string{"no such user", "root", "@no such group"})
	if !peers.Allow(socket.Peer{}) || len(leftOut) != 2 {
		t.Errorf("the known one beside them is lost: left out %q", leftOut)
	}
}

func TestOnly(t *testing.T) {
	for _, row := range []struct {
		names []string
		only  []uint32
		want  bool
	}{
		{nil, nil, true},
		{nil, []uint32{0}, true},
		{[]string{"0"}, nil, false},
		{[]string{"0"}, []uint32{0}, true},
		{[]string{"0"}, []uint32{0, 7}, true},
		{[]string{"0", "7"}, []uint32{0}, false},
		{[]string{"0", "7"}, []uint32{7, 0}, true},
		{[]string{"@0"}, []uint32{0}, false},
		{[]string{"0", "@0"}, []uint32{0}, false},
	} {
		peers, _ := socket.ResolvePeers(row.names)
		if got := peers.Only(row.only...); got != row.want {
			t.Errorf("%q, %d: got %t", row.names, row.only, got)
		}
	}
}

func TestTheKernelSaysWhoIsCalling(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	listener := listen(t, path)
	dial(t, path)
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	got, err := socket.PeerOf(conn)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	groups := make([]uint32, 0, len(ids))
	for _, id := range ids {
		groups = append(groups, uint32(id))
	}
	want := socket.Peer{PID: int32(os.Getpid()), UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Groups: groups}
	slices.Sort(want.Groups)
	slices.Sort(got.Groups)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWhoCannotBeAskedForIsNobodysPeer: an error that was overlooked must not let
// root in, whose number is zero.
func TestWhoCannotBeAskedForIsNobodysPeer(t *testing.T) {
	everybody, _ := socket.ResolvePeers([]string{"root", "@root", "0", "@0", "nobody", "@nogroup", "65534", "@65534"})
	path := filepath.Join(folder(t), "s")
	listener := listen(t, path)
	dial(t, path)
	closed, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for what, conn := range map[string]*net.UnixConn{"closed": closed, "never open": {}} {
		if got, err := socket.PeerOf(conn); err == nil || everybody.Allow(got) {
			t.Errorf("%s: got %+v, %v", what, got, err)
		}
	}
}

func TestAPeerIsNamedByNumberAndName(t *testing.T) {
	root, err := user.LookupId("0")
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]string{0: "uid=0(" + root.Username + ")", 4_000_000_001: "uid=4000000001"} {
		if got := (socket.Peer{UID: uid}).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
