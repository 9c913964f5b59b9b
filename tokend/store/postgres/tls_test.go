package postgres_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
)

// TestServerMayAskForACertificate: of the daemon, on each of its ways to it.
func TestServerMayAskForACertificate(t *testing.T) {
	secure, err := servers.StartPostgreSQLWithTLS("fsync=off", "ssl_ca_file=server.crt")
	check(err)
	t.Cleanup(func() { check(secure.Stop()) })
	check(secure.Exec(t.Context(), `CREATE DATABASE `+servers.Certified))
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {secure.Certificate()}}
	where := "postgres://tokend@localhost:" + secure.Port() + "/" + servers.Certified + "?"
	_, err = postgres.Open(t.Context(), postgres.Config{URL: where + query.Encode()})
	wantSentence(t, "without one", err, "requires a valid client certificate", "sslcert")
	key := filepath.Join(t.TempDir(), "key.pem")
	write := func(from string) {
		text, err := os.ReadFile(from)
		check(err)
		check(os.WriteFile(key, text, 0o600))
	}
	write(secure.Key())
	query.Set("sslcert", secure.Certificate())
	query.Set("sslkey", key)
	s := open(t, where+query.Encode())
	heard := told(t, s)
	r := mint(t, s)
	check(revokeNow(t, s, r))
	wantTold(t, "with one", heard, r.Digest)
	if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.Revoked.IsZero() {
		t.Errorf("revoked %v, %v", got.Revoked, err)
	}

	write(server.Key()) // a renewal that is half done
	check(secure.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokend'`))
	await(t, "the cause to be named", func() bool {
		err := s.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), "sslcert and sslkey of [store] url cannot be used; do they belong together")
	})
	write(secure.Key())
	await(t, "the right ones to be read", func() bool { return s.Ping(t.Context()) == nil })

	check(os.Remove(key)) // and one that can only be waited for
	check(syscall.Mkfifo(key, 0o600))
	check(secure.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokend'`))
	await(t, "the pipe to be named", func() bool {
		err := s.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), "sslkey: "+key+" is no regular file")
	})
	check(os.Remove(key))
	write(secure.Key())
	await(t, "the right one to be read", func() bool { return s.Ping(t.Context()) == nil && s.Hears() })

	query.Set("sslcert", server.Certificate()) // of another authority
	write(server.Key())
	_, err = postgres.Open(t.Context(), postgres.Config{URL: where + query.Encode()})
	wantSentence(t, "with another one", err, "TLS with PostgreSQL fails", "does it believe sslcert")
}

// TestServerMustBeTheOneThatItsCertificateNames, if the URL asks for that.
func TestServerMustBeTheOneThatItsCertificateNames(t *testing.T) {
	secure, err := servers.StartPostgreSQLWithTLS("fsync=off")
	check(err)
	t.Cleanup(func() { check(secure.Stop()) })
	elsewhere := filepath.Join(t.TempDir(), "other.crt")
	other, err := os.ReadFile(server.Certificate())
	check(err)
	check(os.WriteFile(elsewhere, other, 0o600))
	for _, c := range []struct{ mode, authority, refusal string }{
		{"verify-full", secure.Certificate(), ""},
		{"require", "", ""},
		{"verify-full", elsewhere, "does sslrootcert in [store] url name who signed the server's certificate"},
		{"verify-full", "", "certificate signed by unknown authority"},
		{"disable", "", "no encryption"},
	} {
		query := url.Values{"sslmode": {c.mode}}
		if c.authority != "" {
			query.Set("sslrootcert", c.authority)
		}
		s, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://tokend@localhost:" + secure.Port() + "/postgres?" + query.Encode()})
		if err == nil {
			check(s.Close())
		}
		if (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
