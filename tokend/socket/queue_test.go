package socket_test

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tokend/tokend/socket"
)

// TestTheQueueIsBounded, however long the system lets it be.
func TestTheQueueIsBounded(t *testing.T) {
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), "s")
	out, err := rooted("unshare", "--net", "sh", "-c", `echo 65535 >/proc/sys/net/core/somaxconn && exec "$@"`, "sh", binary, "queue", path).CombinedOutput()
	if waiting, failed := strconv.Atoi(string(out)); err != nil || failed != nil || waiting < 4000 || waiting > 4200 {
		t.Errorf("%s connections wait, want 4096 (%v)", out, err)
	}
}

// fillQueue says how many connections wait at a socket that accepts none. One that
// hangs up goes on waiting.
func fillQueue(path string) (waiting int) {
	listener, err := socket.Listen(context.Background(), path, socket.Peers{})
	if err != nil {
		panic(err)
	}
	defer listener.Close() // which keeps it until then
	for ; waiting < 10_000; waiting++ {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	return waiting
}
