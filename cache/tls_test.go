package cache_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/e2e/servers"
)

func TestTLSShowsWhoIsWho(t *testing.T) {
	server, err := servers.StartRedisWithTLS()
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	address := cache.Address{Servers: []string{server.Addr()}, TLS: true, CAFile: server.Certificate()}
	r := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	put(t, r, "k", "v", time.Hour)
	expect(t, r, "k", "v")
	address.CAFile = ""
	stranger := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(stranger.Err().Error(), "does ca_file name who signed") })
	expect(t, stranger, "k", "(error)")
	for _, bad := range []string{filepath.Join(t.TempDir(), "none"), write(t, "no certificate")} {
		address.CAFile = bad
		if _, err := cache.NewRedis(cache.RedisConfig{Address: address, Keys: keys}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestConnectionsThatAreKeptReadyAreUsed: a login would have to wait for another. With TLS 1.3
// servers say something before they are asked.
func TestConnectionsThatAreKeptReadyAreUsed(t *testing.T) {
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		server, err := servers.StartRedisWithTLS("tls-protocols " + version)
		must(t, err)
		t.Cleanup(func() { must(t, server.Stop()) })
		address := cache.Address{Servers: []string{server.Addr()}, TLS: true, CAFile: server.Certificate()}
		r := runRedis(t, cache.RedisConfig{Address: address, Keys: keys})
		eventually(t, "some are ready", func() bool { return r.Ready() >= 4 })
		if n := r.Spoilt(t.Context()); n > 0 {
			t.Errorf("%s: %d could not be used", version, n)
		}
	}
}

// TestARenewedCertificateNeedsNoRestart: of another authority, which ca_file names then.
func TestARenewedCertificateNeedsNoRestart(t *testing.T) {
	one, err := servers.StartRedisWithTLS()
	must(t, err)
	t.Cleanup(func() { must(t, one.Stop()) })
	other, err := servers.StartRedisWithTLS()
	must(t, err)
	t.Cleanup(func() { must(t, other.Stop()) })
	authority := filepath.Join(t.TempDir(), "ca.pem")
	copyFile(t, other.Certificate(), authority)
	r := startRedis(t, cache.RedisConfig{Address: cache.Address{Servers: []string{one.Addr()}, TLS: true, CAFile: authority}, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(r.Err().Error(), "does ca_file name who signed") })
	copyFile(t, one.Certificate(), authority)
	eventually(t, "it is used", r.Used)
}

// TestRedisMayAskForACertificate: of the daemon, whose files are read for each connection.
func TestRedisMayAskForACertificate(t *testing.T) {
	server, err := servers.StartRedisWithTLS("tls-auth-clients yes")
	must(t, err)
	t.Cleanup(func() { must(t, server.Stop()) })
	other, err := servers.StartRedisWithTLS()
	must(t, err)
	t.Cleanup(func() { must(t, other.Stop()) })
	address := cache.Address{Servers: []string{server.Addr()}, TLS: true, CAFile: server.Certificate()}
	stranger := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it says why", func() bool { return strings.Contains(stranger.Err().Error(), "do they want one (cert_file)") })

	address.CertFile, address.KeyFile = write(t, ""), write(t, "")
	name := func(of *servers.Redis) {
		copyFile(t, of.Certificate(), address.CertFile)
		copyFile(t, of.Key(), address.KeyFile)
	}
	name(other)
	r := startRedis(t, cache.RedisConfig{Address: address, Keys: keys})
	eventually(t, "it was tried", func() bool { return !strings.Contains(r.Err().Error(), "not tried") })
	name(server) // renewed
	eventually(t, "it is used", r.Used)
	put(t, r, "k", "v", time.Hour)
	expect(t, r, "k", "v")

	must(t, os.Remove(address.KeyFile))
	_, err = server.Exec(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
	must(t, err)
	eventually(t, "it names the file", func() bool {
		return r.Err() != nil && strings.Contains(r.Err().Error(), "[cache] cert_file and key_file")
	})
	if stranger.Used() {
		t.Error("who shows no certificate is let in")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, text, 0o600))
}
