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

// TestTheQueueIsBounded, however long the system and a socket unit let it be.
func TestTheQueueIsBounded(t *testing.T) {
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for _, queue := range []string{"queue", "adopted queue"} {
		path := filepath.Join(folder(t), "s")
		out, err := rooted("unshare", "--net", "sh", "-c", `echo 65535 >/proc/sys/net/core/somaxconn && exec "$@"`, "sh", binary, queue, path).CombinedOutput()
		if waiting, failed := strconv.Atoi(string(out)); err != nil || failed != nil || waiting < 4000 || waiting > 4200 {
			t.Errorf("%s: %s connections wait, want 4096 (%v)", queue, out, err)
		}
	}
}

func fillQueue(path string) (waiting string) {
	listener, err := socket.Listen(context.Background(), path, socket.Peers{})
	return fill(path, listener, err)
}

func fillAdoptedQueue(path string) (waiting string) {
	made, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err.Error()
	}
	listener, err := socket.Adopt(made)
	return fill(path, listener, err)
}

// fill says how many connections wait at a socket that accepts none. One that hangs
// up goes on waiting.
func fill(path string, listener *socket.Listener, err error) string {
	if err != nil {
		return err.Error()
	}
	defer listener.Close() // which keeps it until then
	waiting := 0
	for ; waiting < 10_000; waiting++ {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	return strconv.Itoa(waiting)
}
