package verify_test

import (
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/verify"
)

// TestExpiryOfKnoxIsByItsServersClock, not by this machine's, from the cache, too.
func TestExpiryOfKnoxIsByItsServersClock(t *testing.T) {
	t.Parallel()
	server, err := servers.StartPostgreSQL("fsync=off")
	must(err)
	t.Cleanup(func() { must(server.Stop()) })
	for by, want := range map[time.Duration][2]verify.Reason{
		0:               {verify.OK, verify.Expired},
		48 * time.Hour:  {verify.Expired, verify.Expired},
		-48 * time.Hour: {verify.OK, verify.OK},
	} {
		must(server.Turn(by, "fsync=off"))
		site := knoxtest.New(t, server, "knox-5")
		f := (&knoxFixture{Site: site}).open(t, site.URL())
		alice := f.User("alice")
		tomorrow, yesterday := knoxtest.NewToken(), knoxtest.NewToken()
		f.Keep(tomorrow, alice, time.Now().Add(24*time.Hour))
		f.Keep(yesterday, alice, time.Now().Add(-24*time.Hour))
		for range 2 {
			if got := [2]verify.Reason{f.says(t, tomorrow), f.says(t, yesterday)}; got != want {
				t.Errorf("turned by %s: %v, want %v", by, got, want)
			}
		}
	}
}
