package verify_test

import (
	"path/filepath"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/verify"
)

// TestWhatIsReadAgainAndGoneIsNotBelievedWhileTheSiteIsAway: nobody has logged in with it meanwhile.
func TestWhatIsReadAgainAndGoneIsNotBelievedWhileTheSiteIsAway(t *testing.T) {
	t.Parallel()
	site := knoxtest.New(t, postgres, "sodar-1.3")
	proxy, err := servers.StartProxy("unix", filepath.Join(postgres.Dir(), ".s.PGSQL."+postgres.Port()))
	must(err)
	t.Cleanup(func() { must(proxy.Close()) })
	f := (&knoxFixture{Site: site}).open(t, "postgres://"+site.Role+"@"+proxy.Addr()+"/"+site.Database()+"?sslmode=disable", refresh(time.Second))
	f.run(t)
	alice := f.User("alice")
	gone, kept := f.Mint(alice), f.Mint(alice)
	for _, secret := range []string{gone.Reveal(), kept.Reveal()} {
		if got := f.Check(t.Context(), "alice", secret).Reason; got != verify.OK {
			t.Fatal(got)
		}
	}
	f.Exec(`DELETE FROM tokens_sodarauthtoken WHERE digest = $1`, f.Digest(gone).String())
	again := f.knox.again.Load()
	if !within(10*time.Second, func() bool { return f.knox.again.Load() > again+2 }) {
		t.Fatal("nothing is read again")
	}
	proxy.Cut()
	for range 3 {
		if got := f.says(t, gone); got == verify.OK {
			t.Error("it was deleted, and opens")
		}
		if got := f.says(t, kept); got != verify.OK {
			t.Errorf("the other one: %s", got)
		}
	}
}
