package verify_test

import (
	"strings"
	"testing"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestALoginCostsOneStatementColdAndNoneWarm, as the site's server counts them.
func TestALoginCostsOneStatementColdAndNoneWarm(t *testing.T) {
	t.Parallel()
	for _, kind := range knoxtest.Kinds() {
		site := knoxtest.New(t, postgres, kind)
		site.Exec(`ALTER ROLE ` + site.Role + ` SET log_statement = 'all'`)
		f := (&knoxFixture{Site: site}).open(t, site.URL(), func(c *verify.Config) { c.KnoxPrefix = "irods_" })
		statements := func() int {
			return strings.Count(postgres.Log(), "\n"+site.Role+" LOG:  execute ") + strings.Count(postgres.Log(), "\n"+site.Role+" LOG:  statement: ")
		}
		alice := f.User("alice")
		if f.says(t, f.Mint(alice)); statements() == 0 {
			t.Fatal("the server says nothing of statements")
		}
		secret, gone, late, own := f.Mint(alice), knoxtest.NewToken(), knoxtest.NewToken(), f.mint(t, token.Record{})
		f.Keep(late, alice, "2020-01-02")
		for _, step := range []struct {
			what, user, secret string
			want               verify.Reason
			statements         int
		}{
			{"cold", "alice", secret.Reveal(), verify.OK, 1},
			{"warm", "alice", secret.Reveal(), verify.OK, 0},
			{"of another name", "bob", secret.Reveal(), verify.WrongUser, 0},
			{"unknown", "alice", gone.Reveal(), verify.Unknown, 1},
			{"unknown again", "alice", gone.Reveal(), verify.Unknown, 0},
			{"expired", "alice", late.Reveal(), verify.Expired, 1},
			{"expired, again", "alice", late.Reveal(), verify.Expired, 0},
			{"one of tokend's own", "alice", own.Reveal(), verify.OK, 0},
			{"not hexadecimal", "alice", strings.Repeat("x", 64), verify.Malformed, 0},
			{"cut", "alice", secret.Reveal()[:50], verify.Malformed, 0},
			{"a megabyte", "alice", strings.Repeat("a", 1<<20), verify.Malformed, 0},
		} {
			before := statements()
			if got := f.Check(t.Context(), step.user, step.secret).Reason; got != step.want {
				t.Errorf("%s, %s: %s", kind, step.what, got)
			}
			if n := statements() - before; n != step.statements {
				t.Errorf("%s, %s: it costs %d statements, want %d", kind, step.what, n, step.statements)
			}
			if n := f.source.asked.Load(); step.what == "of another name" && n > 0 {
				t.Errorf("%s: our own store was asked %d times", kind, n)
			}
		}
	}
}
