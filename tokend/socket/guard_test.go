package socket_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/tokend/socket"
	"tokend/tokend/verify"
)

// site is a guarded server in a test.
type site struct {
	path     string
	guard    *socket.Guard
	registry *prometheus.Registry
	log      *syncBuffer
}

// guarded serves everybody who is among the peers and presents "right".
func guarded(t *testing.T, names ...string) *site {
	t.Helper()
	s := &site{path: filepath.Join(folder(t), "s"), registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	peers, leftOut := socket.ResolvePeers(names)
	if leftOut != nil {
		t.Fatal(leftOut)
	}
	listener, err := socket.Listen(t.Context(), s.path, peers)
	if err := errors.Join(err, os.Chmod(s.path, 0o666)); err != nil { // let the guard itself refuse
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	rejections := socket.NewRejections(s.registry)
	s.guard = socket.NewGuard(listener, peers, log, rejections)
	run(t, socket.New(socket.Config{Check: alice, Logger: log, Rejections: rejections}), s.guard)
	return s
}

// alice is the only one who may come in, with "right".
func alice(_ context.Context, user, secret string) verify.Verdict {
	if user == "alice" && secret == "right" {
		return verify.Verdict{Reason: verify.OK, Token: "4k2jx01mfp9a"}
	}
	return verify.Verdict{Reason: verify.Unknown}
}

func TestOnlyPeersAreAnswered(t *testing.T) {
	own := strconv.Itoa(os.Geteuid())
	many := make([]int, 0, 200)
	for i := range 200 {
		many = append(many, 65000+i)
	}
	const in, out = true, false
	for _, row := range []struct {
		name  string
		peers []string
		asker asker
		want  bool
	}{
		{"nobody may", nil, asker{64001, 64001, nil}, out},
		{"by user", []string{"64001"}, asker{64001, 64002, nil}, in},
		{"another user", []string{"64001"}, asker{64003, 64002, nil}, out},
		{"by group", []string{"@64002"}, asker{64001, 64002, nil}, in},
		{"another group", []string{"@64002"}, asker{64001, 64003, nil}, out},
		{"by supplementary group", []string{"@64005"}, asker{64001, 64002, []int{64004, 64005}}, in},
		{"other supplementary groups", []string{"@64005"}, asker{64001, 64002, []int{64004, 64006}}, out},
		{"by the first of 200 groups", []string{"@65000"}, asker{64001, 64002, many}, in},
		{"by the last of 200 groups", []string{"@65199"}, asker{64001, 64002, many}, in},
		{"none of 200 groups", []string{"@65200"}, asker{64001, 64002, many}, out},
		{"user and group mixed up", []string{"64002", "@64001"}, asker{64001, 64002, nil}, out},
		{"root is no exception", []string{"64001"}, asker{0, 0, nil}, out},
		{"nor is the daemon's own user", []string{"@64002"}, asker{os.Geteuid(), 64003, nil}, out},
		{"one of several", []string{own, "@64009", "64001"}, asker{64001, 64002, nil}, in},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := guarded(t, row.peers...)
			want, count := yes, 0.0
			if row.want == out {
				want, count = "", 1
			}
			if got := row.asker.ask(t, s.path); got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			eventually(t, "the connection is counted", func() bool { return rejected(t, s.registry)["peer"] == count })
			if row.want == out {
				name := `peer="uid=` + strconv.Itoa(row.asker.uid)
				eventually(t, "the log names the stranger", func() bool { return strings.Contains(s.log.String(), name) })
			} else if s.log.String() != "" {
				t.Errorf("the log says %s", s.log)
			}
		})
	}
}

// A stranger learns nothing, not even by saying nothing, or by saying much.
func TestAStrangerGetsNotOneByte(t *testing.T) {
	s := guarded(t)
	strangers := map[string]string{"silent": "", "good": request("alice", "right"), "half": request("alice", "right")[:9], "garbage": strings.Repeat("\xff", 5000)}
	for name, bytes := range strangers {
		if got, _ := converse(dial(t, s.path), bytes); got != "" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	eventually(t, "all are counted", func() bool { return rejected(t, s.registry)["peer"] == float64(len(strangers)) })
}

// Nothing is waited for from a peer who has hung up.
func TestAPeerWhoHangsUpHalfwayIsSeenAtOnce(t *testing.T) {
	s := guarded(t, strconv.Itoa(os.Geteuid()))
	conn := dial(t, s.path)
	if _, err := io.WriteString(conn, request("alice", "right")[:9]); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool { return rejected(t, s.registry)["incomplete"]+rejected(t, s.registry)["timeout"] == 1 })
	if got := rejected(t, s.registry)["incomplete"]; got != 1 {
		t.Errorf("%v are counted as incomplete", got)
	}
}

func TestNewPeersCountFromTheNextConnectionOn(t *testing.T) {
	own := strconv.Itoa(os.Geteuid())
	s := guarded(t)
	set := func(names ...string) {
		peers, _ := socket.ResolvePeers(names)
		if !s.guard.SetPeers(peers) || s.guard.SetPeers(peers) {
			t.Errorf("peers %q: they are not told to be others, or the same ones are", names)
		}
	}
	if got, _ := converse(dial(t, s.path), request("alice", "right")); got != "" {
		t.Errorf("before: got %q", got)
	}
	set(own)
	if got := exchange(t, s.path, request("alice", "right")); got != yes {
		t.Errorf("after: got %q", got)
	}
	set()
	if got, _ := converse(dial(t, s.path), request("alice", "right")); got != "" {
		t.Errorf("when it was taken back: got %q", got)
	}
}

func TestAcceptTellsWhoThePeerIs(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	peers, _ := socket.ResolvePeers([]string{strconv.Itoa(os.Geteuid())})
	guard := socket.NewGuard(listen(t, path), peers, slog.New(slog.DiscardHandler), socket.NewRejections(nil))
	dial(t, path)
	conn, err := guard.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if c, ok := conn.(*socket.Conn); !ok || c.Peer.PID != int32(os.Getpid()) || c.Peer.UID != uint32(os.Geteuid()) {
		t.Errorf("got %+v", conn)
	}
}

func TestManyStrangersDoNotFillTheLog(t *testing.T) {
	const strangers = 200
	s := guarded(t)
	for range strangers {
		_, _ = converse(dial(t, s.path), "")
	}
	eventually(t, "all are counted", func() bool { return rejected(t, s.registry)["peer"] == strangers })
	lines := bytes.Count([]byte(s.log.String()), []byte("level=WARN"))
	if lines < 10 || lines > 60 { // the first ten, then one a second
		t.Errorf("%d lines in the log", lines)
	}
}

// run serves until the test ends; then it must end cleanly.
func run(t *testing.T, server *socket.Server, listener net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
