package servers_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"tokend/tokend/e2e/servers"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// started are the server, which ends with the test, and whether it could be started.
func started[S interface{ Stop() error }](t *testing.T, server S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// open is a client that tries once, as long as its context allows.
func open(t *testing.T, options *redis.Options) *redis.Client {
	t.Helper()
	options.MaxRetries, options.DialerRetries, options.ContextTimeoutEnabled = -1, 1, true
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestRedisForgetsWhenItIsKilled(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	server, err := servers.StartRedis("requirepass hunter2", "maxmemory 3mb")
	server = started(t, server, err)
	client := open(t, &redis.Options{Addr: server.Addr(), Password: "hunter2"})
	if err := client.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if answer, err := server.Exec(ctx, "GET", "key"); err != nil || answer != "value" {
		t.Errorf("GET says %v, %v", answer, err)
	}
	if answer, err := client.ConfigGet(ctx, "maxmemory").Result(); err != nil || answer["maxmemory"] != "3145728" {
		t.Errorf("maxmemory is %v, %v", answer, err)
	}
	if err := open(t, &redis.Options{Addr: server.Addr()}).Ping(ctx).Err(); err == nil {
		t.Error("it asks for no password")
	}

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a killed server answers")
	}
	if err := server.Serve(); err != nil {
		t.Fatal(err)
	}
	keys, err := open(t, &redis.Options{Addr: server.Addr()}).Keys(ctx, "*").Result()
	if diff := cmp.Diff([]string{}, keys); err != nil || diff != "" {
		t.Errorf("after a new start (-want +got): %s %v", diff, err)
	}
	if text, err := os.ReadFile(server.Log()); err != nil || !strings.Contains(string(text), "Ready to accept connections") {
		t.Errorf("the log is %q, %v", text, err)
	}
	if err := server.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(server.Log()); !os.IsNotExist(err) {
		t.Errorf("of a stopped server, its log is there: %v", err)
	}
}

func TestPausedRedisDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server, err := servers.StartRedis()
	server = started(t, server, err)
	client := open(t, &redis.Options{Addr: server.Addr()})
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(within(t, 100*time.Millisecond)).Err(); err == nil {
		t.Error("a paused server answers")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(within(t, 20*time.Second)).Err(); err != nil {
		t.Error(err)
	}
	if err := server.Pause(); err != nil { // and such a one ends all the same
		t.Fatal(err)
	}
}

func TestRedisWithTLSIsReachedByTLSAlone(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	server, err := servers.StartRedisWithTLS()
	server = started(t, server, err)
	text, err := os.ReadFile(server.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	if err := open(t, &redis.Options{Addr: server.Addr(), TLSConfig: &tls.Config{RootCAs: roots}}).Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
	if err := open(t, &redis.Options{Addr: server.Addr()}).Ping(ctx).Err(); err == nil {
		t.Error("it answers without TLS")
	}
}

func TestServerThatEndsAtOnceIsNotAwaited(t *testing.T) {
	t.Parallel()
	start := time.Now()
	server, err := servers.StartRedis("no-such-setting 1")
	if err == nil {
		ended(t, server.Stop)
	}
	if err == nil || !strings.Contains(err.Error(), "no-such-setting") {
		t.Errorf("the error is %v, want one with the server's log", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
