package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis is a server that keeps everything in its memory alone.
type Redis struct {
	dir      string
	port     string
	tls      bool
	like     *Redis // whose certificate it has, too; nil: one of its own
	sentinel bool
	own      []string // settings that every start has
	password string
	process  *process
}

// StartRedis starts one on a free port of 127.0.0.1, with the settings, which are lines of
// redis.conf such as "maxmemory 3mb".
func StartRedis(settings ...string) (*Redis, error) {
	return (&Redis{}).begin(settings)
}

// StartRedisWithTLS starts one that is reached by TLS alone.
func StartRedisWithTLS(settings ...string) (*Redis, error) {
	return (&Redis{tls: true}).begin(settings)
}

func (r *Redis) begin(settings []string) (*Redis, error) {
	var err error
	if r.dir, err = folder(); err != nil {
		return nil, err
	}
	if r.tls && r.like == nil {
		err = writeCertificate(r.Certificate(), r.Key())
	}
	if err == nil {
		err = onFreePort(func(port string) error {
			r.port = port
			return r.Serve(settings...)
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Redis: %w", err), r.Stop())
	}
	return r, nil
}

// Serve starts a server again, on the same port, that remembers nothing.
func (r *Redis) Serve(settings ...string) (err error) {
	lines := []string{
		"bind 127.0.0.1", "protected-mode no", `save ""`, "appendonly no",
		// A server that cannot have its port ends before it opens this one: what answers here is it.
		"unixsocket " + r.file("socket"),
	}
	if r.tls {
		lines = append(lines, "port 0", "tls-port "+r.port, "tls-auth-clients optional", "tls-replication yes", "tls-cluster yes",
			"tls-cert-file "+r.Certificate(), "tls-key-file "+r.Key(), "tls-ca-cert-file "+r.Certificate())
	} else {
		lines = append(lines, "port "+r.port)
	}
	lines = slices.Concat(lines, r.own, settings)
	r.password = setting(lines, "requirepass")
	if err := errors.Join(os.RemoveAll(r.file("socket")), writeFile(r.file("redis.conf"), []byte(strings.Join(lines, "\n")+"\n"))); err != nil {
		return err
	}
	args := []string{"redis.conf"}
	if r.sentinel {
		args = append(args, "--sentinel")
	}
	r.process, err = serve(command(r.dir, "redis-server", args...), r.Log(), func(ctx context.Context) error {
		// Alone first, because go-redis writes on the standard error what it cannot reach.
		conn, err := new(net.Dialer).DialContext(ctx, "unix", r.file("socket"))
		if err != nil {
			return err
		}
		_, err = r.Exec(ctx, "PING")
		return errors.Join(err, conn.Close())
	})
	return err
}

// setting is the value of the last line with the name, which counts.
func setting(lines []string, name string) string {
	for _, line := range slices.Backward(lines) {
		if key, value, _ := strings.Cut(line, " "); strings.EqualFold(key, name) {
			return strings.Trim(value, `" `)
		}
	}
	return ""
}

// Exec does something and returns the answer. It goes by a socket of its own, whatever the
// server asks of others.
func (r *Redis) Exec(ctx context.Context, args ...any) (any, error) {
	client := redis.NewClient(r.options())
	answer, err := client.Do(ctx, args...).Result()
	return answer, errors.Join(err, client.Close())
}

func (r *Redis) options() *redis.Options {
	return &redis.Options{
		Network: "unix", Addr: r.file("socket"), Password: r.password,
		Protocol: 2, DisableIdentity: true, // which sentinels don't know
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Addr is where it listens.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", r.port) }

// Certificate is the file with the one that a server with TLS shows.
func (r *Redis) Certificate() string { return r.secure("server.crt") }

// Key is the file with that one's key. Both together are a client's, too, for a server that
// asks for a certificate.
func (r *Redis) Key() string { return r.secure("server.key") }

func (r *Redis) secure(name string) string {
	if r.like != nil {
		r = r.like
	}
	return r.file(name)
}

// Log is the file with what it says since it was started the last time.
func (r *Redis) Log() string { return r.file("log") }

func (r *Redis) file(name string) string { return filepath.Join(r.dir, name) }

// Kill ends the server by SIGKILL; Serve starts it again.
func (r *Redis) Kill() error { return r.process.end(syscall.SIGKILL, 0) }

// Pause stops the server: connections to it stay, and new ones are made, but nothing
// answers until Resume.
func (r *Redis) Pause() error { return r.process.pause() }

// Resume lets it go on.
func (r *Redis) Resume() error { return r.process.resume() }

// Stop ends the server, if it runs, and removes all of it.
func (r *Redis) Stop() error { return errors.Join(r.Kill(), os.RemoveAll(r.dir)) }
