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
