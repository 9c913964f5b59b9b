package cache_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

// liar is a server that answers some commands always with the same bytes, and all else as Redis
// does.
func liar(t *testing.T, lies map[string]string, forever bool) (address string) {
	t.Helper()
	return turncoat(t, func(string) map[string]string { return lies }, forever)
}

// turncoat is a liar whose lies change. They are asked for with each request, in small letters.
func turncoat(t *testing.T, lies func(asked string) map[string]string, forever bool) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					asked := strings.ToLower(string(buf[:n]))
					answer := strings.Repeat("+OK\r\n", strings.Count("\r\n"+asked, "\r\n*"))
					if strings.Contains(asked, "\r\nhello\r\n") {
						answer = "-ERR unknown command\r\n"
					}
					lie := "none"
					for command, said := range lies(asked) {
						if strings.Contains(asked, "\r\n"+command+"\r\n") {
							lie, answer = said, said
						}
					}
					for ok := true; ok && err == nil; ok = forever && answer == lie {
						_, err = io.WriteString(conn, answer)
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		must(t, listener.Close())
		all.Wait()
	})
	return listener.Addr().String()
}

// TestWhatAServerAnnouncesCostsNoMemory: it would end the daemon, or hold a login up.
func TestWhatAServerAnnouncesCostsNoMemory(t *testing.T) {
	for name, c := range map[string]struct {
		lie     string
		forever bool
	}{
		"a value as long as numbers go": {lie: "$9223372036854775806\r\n"},
		"one that no memory has":        {lie: "$100000000000000\r\n"},
		"one of 512 MB":                 {lie: "$536870912\r\n"},
		"many values":                   {lie: "*1000000000\r\n"},
		"many pairs":                    {lie: "%1000000000\r\n"},
		"a number of any length":        {lie: "(9\r\n"},
		"a number that is none":         {lie: "$x\r\n"},
		"no kind":                       {lie: "?1\r\n"},
		"arrays of arrays without end":  {lie: strings.Repeat("*1\r\n", 1000), forever: true},
		"arrays with something":         {lie: strings.Repeat("*2\r\n_\r\n", 1000), forever: true},
		"large arrays in arrays":        {lie: strings.Repeat("*30000\r\n_\r\n", 10)},
		"large arrays at once":          {lie: strings.Repeat("*30000\r\n", 3)},
		"pairs in pairs":                {lie: strings.Repeat("%2\r\n_\r\n_\r\n_\r\n", 20)},
		"a long value in a long array":  {lie: "*60000\r\n$100000\r\n"},
		"attributes without end":        {lie: strings.Repeat("|0\r\n", 1000), forever: true},
		"attributes with something":     {lie: strings.Repeat("|1\r\n+a\r\n+b\r\n", 1000), forever: true},
		"a line without end":            {lie: "+" + strings.Repeat("x", 4096), forever: true},
	} {
		r := startRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{liar(t, map[string]string{"get": c.lie}, c.forever)}}, Keys: keys})
		eventually(t, name+": it was tried", func() bool { return !strings.Contains(r.Err().Error(), "not tried") })
		if !strings.Contains(r.Err().Error(), "longer than any") {
			t.Errorf("%s: %v", name, r.Err())
		}
		if r.Used() {
			t.Errorf("%s: it is used", name)
		}
	}
}

// TestHalfOfSomethingIsNotWaitedFor: a server begins what TLS would wait for the end of. The
// client takes all deadlines away before it looks what is there to be read.
func TestHalfOfSomethingIsNotWaitedFor(t *testing.T) {
	of, err := servers.StartRedisWithTLS()
	must(t, err)
	t.Cleanup(func() { must(t, of.Stop()) })
	pair, err := tls.LoadX509KeyPair(of.Certificate(), of.Key())
	must(t, err)
	for _, answer := range []string{"", "+PONG\r\n"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		end := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			conn, err := listener.Accept()
			must(t, err)
			defer conn.Close()
			secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}})
			_, err = secure.Read(make([]byte, 100))
			must(t, err)
			_, err = io.WriteString(secure, answer)
			must(t, err)
			_, err = conn.Write([]byte{23, 3, 3})
			must(t, err)
			<-end
		})
		t.Cleanup(func() {
			must(t, listener.Close())
			close(end)
			all.Wait()
		})
		ended := make(chan error, 1)
		go func() {
			address := cache.Address{TLS: true, CAFile: of.Certificate()}
			conn, err := address.Dial(context.Background(), listener.Addr().String())
			if err == nil {
				defer conn.Close()
				if err = conn.SetDeadline(time.Time{}); err == nil {
					_, err = conn.Read(make([]byte, 1))
				}
			}
			ended <- err
		}()
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %q: %v", answer, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("after %q it is waited for", answer)
		}
	}
}
