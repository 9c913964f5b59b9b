package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestAuditTrailNamesThePeerWhoDidIt: an admin who is not the daemon's own user,
// whatever that admin claims to be.
func TestAuditTrailNamesThePeerWhoDidIt(t *testing.T) {
	const admin = "12347"
	site := newSite(t)
	reconfigure(t, site, fmt.Sprintf("%q\npeers = [\"%d\"]", site.AdminSocket(), os.Getuid()),
		fmt.Sprintf("%q\npeers = [\"%d\", %q]", site.AdminSocket(), os.Getuid(), admin))
	start(t, site)
	as := func(uid string, args ...string) (string, error) {
		args = append([]string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "env", "USER=root", "LOGNAME=root", "SUDO_USER=root",
			site.Tokend()}, append(args, "--admin-socket", site.AdminSocket())...)
		out, err := asRoot(t, args...).CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{
		{"token", "create", "--user", "alice"}, {"user", "disable", "alice"}, {"user", "enable", "alice"}, {"token", "revoke", "--user", "alice", "--all"},
	} {
		if out, err := as(admin, args...); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if out, err := as("12348", "token", "create", "--user", "alice"); err == nil {
		t.Errorf("somebody else made a token: %s", out)
	}
	create(t, site, "alice", "never")
	trail := tokend(t, site, "", "audit", "--json")
	if by, own := strings.Count(trail, `"uid=`+admin+`"`), strings.Count(trail, fmt.Sprintf(`"uid=%d`, os.Getuid())); by != 4 || own != 1 {
		t.Errorf("%d entries by uid=%s and %d by the daemon's user, want 4 and 1:\n%s", by, admin, own, trail)
	}
}
