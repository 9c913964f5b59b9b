package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/e2e/rig"
)

// defaults runs tokend without a configuration, in a place of its own where the
// paths and the port of the defaults are free and there is a user irods, and
// logs in as iRODS's agent does. Then a configuration comes, a user whom it names
// does, and it goes again.
const defaults = `set -eu
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
grep -v ^irods: /etc/passwd >/run/passwd
echo irods:x:64123:64123::/:/bin/sh >>/run/passwd
mount --bind /run/passwd /etc/passwd
as_irods="setpriv --reuid 64123 --regid 64123 --clear-groups"
"$1" serve --config /run/absent.toml 2>/run/log &
daemon=$!
trap 'kill "$daemon"; cat /run/log >&2' EXIT
reload() {
	kill -HUP "$daemon"
	for try in $(seq 500); do
		grep -q "$1" /run/log && return
		sleep 0.02
	done
	echo "the log does not say $1"
}
for try in $(seq 500); do
	"$1" user list >/run/users 2>/dev/null && break
	kill -0 "$daemon"
	sleep 0.02
done
"$1" token create --user alice >/run/token
tr -d '\n' </run/token | $as_irods "$2" alice
tr -d '\n' </run/token | PAM_USER=alice $as_irods "$3"
tr -d '\n' </run/token | $as_irods "$2" bob || echo "bob is not"
$as_irods "$1" token list 2>/dev/null || echo "irods may not manage"
"$1" check --user alice </run/token
reload 'configuration reloaded.*changed=nothing'
printf '[auth]\npeers = ["irods", "late"]\n[tokens]\nmax_expiry = "1s"\n' >/run/absent.toml
reload 'changed="auth.peers tokens.default_expiry tokens.max_expiry"'
echo late:x:64124:64124::/:/bin/sh >>/run/passwd
reload 'changed=auth.peers$'
rm /run/absent.toml
reload 'is empty or gone'
"$1" token create --user alice --expires never 2>/dev/null || echo "the limit holds"
stat -c '%a %n' /run/tokend /run/tokend/*.sock /var/lib/tokend /var/lib/tokend/tokend.db
trap - EXIT
kill "$daemon"
wait "$daemon"
cat /run/log >&2
echo "$(find /run/tokend -type s | wc -l) sockets are left"`

// TestWithoutAConfigurationEverythingIsInItsPlace takes what make build makes.
func TestWithoutAConfigurationEverythingIsInItsPlace(t *testing.T) {
	bin := makeBuild(t)
	helper, checker := filepath.Join(bin, "pamhelper"), filepath.Join(bin, rig.CheckerName)
	if err := os.Link(helper, checker); err != nil {
		t.Fatal(err)
	}
	cmd := asRoot(t, "unshare", "--mount", "--net", "--propagation", "private",
		"sh", "-c", defaults, "sh", filepath.Join(bin, "tokend"), checker, helper)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, &log)
	}
	want := `Authenticated
Authenticated
Not Authenticated
bob is not
irods may not manage
yes
the limit holds
755 /run/tokend
600 /run/tokend/admin.sock
660 /run/tokend/auth.sock
700 /var/lib/tokend
600 /var/lib/tokend/tokend.db
0 sockets are left
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("%s\n%s", diff, &log)
	}
	if !strings.Contains(log.String(), `msg="an address of [http] is served" what=metrics address=127.0.0.1:9480`) {
		t.Errorf("the log does not name the port of the metrics:\n%s", &log)
	}
}
