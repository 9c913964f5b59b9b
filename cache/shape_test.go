package cache_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/cache"
)

// oddSentinel answers what asks for an address, and what subscribes, with these, and all else
// as one does that knows no others. It counts the odd answers that were read.
func oddSentinel(t *testing.T, address, news string) (at string, told *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	told = &atomic.Int64{}
	var all sync.WaitGroup
	all.Go(func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			all.Go(func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for odd := false; ; {
					must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
					n, err := conn.Read(buf)
					if odd { // and it is dealt with
						told.Add(1)
						odd = false
					}
					if err != nil {
						return
					}
					asked := strings.ToLower(string(buf[:n]))
					answer := strings.Repeat("+OK\r\n", strings.Count("\r\n"+asked, "\r\n*"))
					switch {
					case strings.Contains(asked, "\r\nhello\r\n"):
						answer = "-ERR unknown command\r\n"
					case strings.Contains(asked, "get-master-addr-by-name"):
						answer, odd = address, news == ""
					case strings.Contains(asked, "\r\nsentinels\r\n"):
						answer = "*0\r\n"
					case strings.Contains(asked, "\r\nsubscribe\r\n"):
						answer, odd = news, true
					}
					if _, err = io.WriteString(conn, answer); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		must(t, listener.Close())
		all.Wait()
	})
	return listener.Addr().String(), told
}

// TestASentinelsOddAnswersEndNothing: the client counts on their shape. A daemon would end.
func TestASentinelsOddAnswersEndNothing(t *testing.T) {
	host, port, err := net.SplitHostPort(redis.Addr())
	must(t, err)
	text := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	message := func(channel, payload string) string { return "*3\r\n" + text("message") + text(channel) + payload }
	right := "*2\r\n" + text(host) + text(port)
	read := map[string]*atomic.Int64{}
	for name, c := range map[string]struct{ address, news string }{
		"no address":             {address: "*0\r\n"},
		"a host alone":           {address: "*1\r\n" + text(host)},
		"more than an address":   {address: "*3\r\n" + text(host) + text(port) + text("x")},
		"neither host nor port":  {address: "*2\r\n$-1\r\n$-1\r\n"},
		"numbers":                {address: "*2\r\n:1\r\n:2\r\n"},
		"arrays":                 {address: "*2\r\n*0\r\n*0\r\n"},
		"a set of one":           {address: "~1\r\n" + text(host)},
		"no news":                {right, "*0\r\n"},
		"news of nothing":        {right, "*1\r\n$-1\r\n"},
		"news of a number":       {right, "*3\r\n:1\r\n:1\r\n:1\r\n"},
		"news of an array":       {right, "*1\r\n*1\r\n" + text("message")},
		"half of a subscription": {right, "*2\r\n" + text("subscribe") + text("+switch-master")},
		"a subscription of text": {right, "*3\r\n" + text("subscribe") + text("+switch-master") + text("1")},
		"half of a message":      {right, "*2\r\n" + text("message") + text("+switch-master")},
		"a message to nobody":    {right, "*3\r\n" + text("message") + "$-1\r\n" + text("x")},
		"a primary without more": {right, message("+switch-master", text("name"))},
		"a primary without port": {right, message("+switch-master", text("name h 1 h"))},
		"a primary as an array":  {right, message("+switch-master", "*1\r\n:1\r\n")},
		"news by a pattern":      {right, "*4\r\n" + text("pmessage") + text("*") + ":1\r\n:1\r\n"},
		"half a pong":            {right, "*2\r\n" + text("pong") + ":1\r\n"},
		"pushed":                 {right, ">2\r\n" + text("message") + text("+switch-master")},
	} {
		at, told := oddSentinel(t, c.address, c.news)
		startRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{at}, Sentinel: "name"}, Keys: keys})
		read[name] = told
	}
	for name, told := range read {
		eventually(t, name+": that was read", func() bool { return told.Load() > 0 })
	}
}
