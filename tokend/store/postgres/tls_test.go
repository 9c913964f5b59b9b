package postgres_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
)

// TestARenewedCertificateNeedsNoRestart: of another authority, which sslrootcert names then.
func TestARenewedCertificateNeedsNoRestart(t *testing.T) {
	secure, err := servers.StartPostgreSQLWithTLS("fsync=off")
	check(err)
	t.Cleanup(func() { check(secure.Stop()) })
	authority := filepath.Join(t.TempDir(), "ca.pem")
	name := func(file string) {
		text, err := os.ReadFile(file)
		check(err)
		check(os.WriteFile(authority, text, 0o600))
	}
	name(secure.Certificate())
	s := open(t, "postgres://tokend@localhost:"+secure.Port()+"/postgres?"+url.Values{"sslmode": {"verify-full"}, "sslrootcert": {authority}}.Encode())
	ended := func() {
		check(secure.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokend'`))
	}
	check(s.Ping(t.Context()))
	name(server.Certificate())
	ended()
	await(t, "the other authority to be asked", func() bool {
		err := s.Ping(t.Context())
		return err != nil && strings.Contains(err.Error(), "does sslrootcert in [store] url name who signed")
	})
	name(secure.Certificate())
	await(t, "the right one", func() bool { return s.Ping(t.Context()) == nil })
	heard := told(t, s) // by a connection of its own
	r := mint(t, s)
	check(revokeNow(t, s, r))
	wantTold(t, "afterwards", heard, r.Digest)
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
