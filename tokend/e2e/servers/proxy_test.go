package servers_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"tokend/tokend/e2e/servers"
)

// late is when what should not come did not, soon when what should come must have.
const (
	late = 150 * time.Millisecond
	soon = 10 * time.Second
)

// listen is a target that gives its connections to the test.
func listen(t *testing.T, network, address string) (target string, accepted <-chan net.Conn) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	conns := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			conns <- conn
		}
	}()
	return listener.Addr().String(), conns
}

func proxied(t *testing.T) (*servers.Proxy, <-chan net.Conn) {
	t.Helper()
	target, accepted := listen(t, "tcp", "127.0.0.1:0")
	proxy, err := servers.StartProxy("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended(t, proxy.Close) })
	return proxy, accepted
}

func dial(t *testing.T, proxy *servers.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// pair are both ends of a new connection.
func pair(t *testing.T, proxy *servers.Proxy, accepted <-chan net.Conn) (client, server net.Conn) {
	t.Helper()
	client = dial(t, proxy)
	return client, next(t, accepted)
}

func next(t *testing.T, accepted <-chan net.Conn) net.Conn {
	t.Helper()
	select {
	case conn := <-accepted:
		return conn
	case <-time.After(soon):
		t.Fatal("the target has no connection")
		return nil
	}
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func readFor(t *testing.T, conn net.Conn, d time.Duration) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
}

// hears that the text comes to the connection.
func hears(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	readFor(t, conn, soon)
	if n, err := io.ReadFull(conn, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v, want %q", got[:n], err, text)
	}
}

func hearsNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	readFor(t, conn, late)
	if n, err := conn.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes and %v came, want nothing", n, err)
	}
}

func isClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	readFor(t, conn, soon)
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes and %v came, want the end", n, err)
	}
}

func TestProxyPassesBothWaysUntilEachEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	target, accepted := listen(t, "unix", path)
	proxy, err := servers.StartProxy("unix", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended(t, proxy.Close) })
	client, server := pair(t, proxy, accepted)
	much := string(bytes.Repeat([]byte("0123456789"), 1<<18))
	var sent errgroup.Group
	sent.Go(func() error {
		_, err := io.WriteString(client, much)
		return errors.Join(err, client.(*net.TCPConn).CloseWrite())
	})
	hears(t, server, much)
	if err := sent.Wait(); err != nil {
		t.Fatal(err)
	}
	isClosed(t, server)
	send(t, server, "yes")
	hears(t, client, "yes")
	server.Close()
	isClosed(t, client)
}

func TestCutProxyClosesConnections(t *testing.T) {
	t.Parallel()
	proxy, accepted := proxied(t)
	client, server := pair(t, proxy, accepted)
	proxy.Cut()
	isClosed(t, client)
	isClosed(t, server)
	isClosed(t, dial(t, proxy))
	if len(accepted) > 0 {
		t.Error("the target has a connection that was refused")
	}
	proxy.Heal()
	client, server = pair(t, proxy, accepted)
	send(t, client, "again")
	hears(t, server, "again")
}

func TestHangingProxyHoldsBack(t *testing.T) {
	t.Parallel()
	proxy, accepted := proxied(t)
	client, server := pair(t, proxy, accepted)
	proxy.Hang()
	proxy.Hang() // which changes nothing
	fresh := dial(t, proxy)
	send(t, client, "up")
	send(t, server, "down")
	send(t, fresh, "fresh")
	hearsNothing(t, client)
	hearsNothing(t, server)
	hearsNothing(t, fresh)
	fresh.Close() // and what it sent comes all the same
	proxy.Heal()
	hears(t, client, "down")
	hears(t, server, "up")
	hears(t, next(t, accepted), "fresh")

	proxy.Hang()
	send(t, client, "lost")
	proxy.Cut()
	isClosed(t, client)
	isClosed(t, server)
}

func TestDelayHoldsBackOneDirection(t *testing.T) {
	t.Parallel()
	proxy, accepted := proxied(t)
	const delay = 2 * time.Second
	client, server := pair(t, proxy, accepted)
	other, otherServer := pair(t, proxy, accepted)
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		if fromClient && bytes.HasPrefix(chunk, []byte("slow")) {
			return delay
		}
		return 0
	})
	start := time.Now()
	send(t, client, "slow")
	send(t, other, "quick")
	hears(t, otherServer, "quick")
	send(t, server, "down")
	hears(t, client, "down")
	hearsNothing(t, server)
	client.Close()
	hears(t, server, "slow")
	isClosed(t, server)
	if took := time.Since(start); took < delay {
		t.Errorf("it came after %s", took)
	}

	proxy.Delay(nil)
	send(t, other, "slow no more")
	hears(t, otherServer, "slow no more")
}

func TestNothingOfAProxyOutlivesClose(t *testing.T) {
	target, accepted := listen(t, "tcp", "127.0.0.1:0")
	proxy, err := servers.StartProxy("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	client, server := pair(t, proxy, accepted)
	proxy.Delay(func(bool, []byte) time.Duration { return time.Hour })
	send(t, client, "much later")
	proxy.Hang()
	send(t, dial(t, proxy), "never")
	closed := make(chan error, 1)
	go func() { closed <- proxy.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Fatal("it does not close")
	}
	isClosed(t, client)
	isClosed(t, server)
	var stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
		t.Fatal(err)
	}
	for stack := range bytes.SplitSeq(stacks.Bytes(), []byte("\n\n")) {
		if bytes.Contains(stack, []byte("servers.(*")) && !bytes.Contains(stack, []byte("servers_test.")) {
			t.Errorf("this goroutine is left:\n%s", stack)
		}
	}
}

func TestProxyLosesWhatIsSentByTheConnectionsThatThereAre(t *testing.T) {
	t.Parallel()
	target, accepted := listen(t, "tcp", "127.0.0.1:0")
	proxy, err := servers.StartProxy("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended(t, proxy.Close) })
	client, server := pair(t, proxy, accepted)
	proxy.Lose()
	send(t, client, "lost")
	hearsNothing(t, server)
	server.Close()
	hearsNothing(t, client)
	client, server = pair(t, proxy, accepted)
	send(t, client, "there")
	hears(t, server, "there")
}
