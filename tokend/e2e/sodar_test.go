package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

// sodar is the database of a SODAR, and a daemon's site beside it.
func sodar(t *testing.T, kind string, more ...string) (*knoxtest.Site, *rig.Site) {
	t.Helper()
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	db := knoxtest.New(t, server, kind)
	return db, newSite(t, append([]string{"[knox]", fmt.Sprintf("url = %q", db.URL())}, more...)...)
}

// opens asks as iRODS does.
func opens(t *testing.T, site *rig.Site, user, secret string) bool {
	t.Helper()
	answer, err := site.AskAsIRODS(t.Context(), user, secret)
	if err != nil || !answer.Plain() {
		t.Fatalf("%+v, %v", answer, err)
	}
	return answer.OK()
}

// ready is what /readyz says, with its status.
func ready(t *testing.T, site *rig.Site) (int, string) {
	t.Helper()
	return get(t, new(adminOf(site)), "http://tokend/readyz", "", "")
}

func get(t *testing.T, client *http.Client, url, user, password string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(text))
}

// TestSODARIsUpgradedUnderTheDaemon from 1.2 to 1.3: the old table goes, the new one has no grant, then it has.
// No restart is needed, and no login is ever answered as a wrong token meanwhile.
func TestSODARIsUpgradedUnderTheDaemon(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.2", `refresh = "1s"`)
	start(t, site)
	alice := db.User("alice@ORG")
	old := db.Mint(alice)
	if !opens(t, site, "alice@ORG", old.Reveal()) || !opens(t, site, "alice@ORG", old.Reveal()[:8]+strings.ToUpper(old.Reveal()[8:])) {
		t.Fatal("a token of SODAR 1.2 does not open iRODS")
	}
	ours := create(t, site, "alice@ORG", "never")
	_, tables, _ := strings.Cut(knoxtest.DDL("sodar-1.3"), "CREATE TABLE tokens_")
	db.Exec(`BEGIN; DROP TABLE knox_authtoken; CREATE TABLE tokens_` + tables + `; COMMIT`)
	db.Tokens, db.Scheme = "tokens_sodarauthtoken", token.Knox5
	fresh := db.Mint(alice)
	time.Sleep(1200 * time.Millisecond) // what was read before is believed for a second
	for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		for _, secret := range []token.Knox{old, fresh} {
			if opens(t, site, "alice@ORG", secret.Reveal()) {
				t.Fatal("it is let in, though nobody can say")
			}
			if reason := lastReason(t, site); reason != "unavailable" {
				t.Fatalf("the reason is %s", reason)
			}
		}
	}
	if !opens(t, site, "alice@ORG", ours) {
		t.Error("a token of tokend's own is refused")
	}
	knoxIs := func(up int) {
		eventually(t, "the metric", func() error {
			const metric = `tokend_up_dependency{dependency="knox"} `
			if _, said := get(t, new(adminOf(site)), "http://tokend/metrics", "", ""); !strings.Contains(said, fmt.Sprint(metric, up)) {
				return fmt.Errorf("it is not %d", up)
			}
			return nil
		})
	}
	knoxIs(0) // before anybody asks /readyz
	if status, said := ready(t, site); status != http.StatusServiceUnavailable || said != "not ready: the tables of Knox are not what they should be; the log says more" {
		t.Errorf("/readyz has status %d and says %q", status, said)
	}
	_, metrics := get(t, new(adminOf(site)), "http://tokend/metrics", "", "")
	for outcome, some := range map[string]bool{"drift": true, "error": false} {
		none := fmt.Sprintf("tokend_knox_request_duration_seconds_count{outcome=%q} 0\n", outcome)
		if strings.Contains(metrics, none) == some {
			t.Errorf("of outcome %s, there are some: %t", outcome, !some)
		}
	}
	waitForLog(t, site, 0, `GRANT SELECT (digest, token_key, user_id, expiry) ON public.tokens_sodarauthtoken TO`)
	db.Grant()
	for begun := time.Now(); !opens(t, site, "alice@ORG", fresh.Reveal()); time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("with the grant, the new token is refused")
		}
	}
	knoxIs(1)
	if status, said := ready(t, site); status != http.StatusOK || said != "ready" {
		t.Errorf("with the grant, /readyz has status %d and says %q", status, said)
	}
}

// TestSaltedTokensEndTheStart, with a sentence.
func TestSaltedTokensEndTheStart(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.2")
	db.Exec(`ALTER TABLE knox_authtoken ADD salt varchar(16) NOT NULL DEFAULT ''`)
	if _, err := site.Start(t.Context()); err == nil {
		t.Error("it starts")
	}
	waitForLog(t, site, 0, "its tokens are salted, as Knox 4.1 and older keep them")
}

// TestTokendKeepsNoTokensOfItsOwn where [store] url is empty.
func TestTokendKeepsNoTokensOfItsOwn(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.3")
	reconfigure(t, site, `url = "sqlite:`+site.Path("state/tokend.db")+`"`, `url = ""`)
	start(t, site)
	secret := db.Mint(db.User("alice"))
	if !opens(t, site, "alice", secret.Reveal()) || opens(t, site, "bob", secret.Reveal()) {
		t.Error("SODAR's token does not open iRODS for its owner alone")
	}
	for _, command := range []string{"token create --user alice", "token list", "token list --json", "token revoke knox-01234567", "user list", "user disable alice", "audit"} {
		if out, err := site.Run(t.Context(), "", strings.Fields(command)...); err == nil || !strings.Contains(err.Error()+out, "this daemon keeps no tokens of its own") {
			t.Errorf("%s: %s, %v", command, out, err)
		}
	}
	if _, said := ready(t, site); said != "ready" {
		t.Errorf("/readyz says %q", said)
	}
}

// TestSODARsEndpointAnswersAsSODARDoes.
func TestSODARsEndpointAnswersAsSODARDoes(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.3", "[sodar]", "endpoint = true")
	address, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	reconfigure(t, site, `metrics = ""`, fmt.Sprintf("metrics = \"\"\nlisten = %q", address))
	start(t, site)
	waitForLog(t, site, 0, `"msg":"an address of [http] is served","what":"SODAR's endpoint"`)
	secret := db.Mint(db.User("alice@ORG")).Reveal()
	url := "http://" + address + "/irodsbackend/api/auth"
	for _, c := range []struct {
		url, user, password string
		want                int
	}{
		{url, "alice@ORG", secret, http.StatusOK},
		{url, "alice@ORG", create(t, site, "alice@ORG", "never"), http.StatusOK},
		{url, "alice", secret, http.StatusUnauthorized},
		{url, "alice@ORG", secret[:63] + "x", http.StatusUnauthorized},
		{url, "alice@ORG", "a:b:" + secret, http.StatusUnauthorized},
		{url, "alice@ORG", secret + ":", http.StatusUnauthorized},
		{url, "alice@ORG", "", http.StatusUnauthorized},
		{url, "", "", http.StatusUnauthorized},
		{"http://" + address + "/api/v1/tokens", "alice@ORG", secret, http.StatusNotFound},
		{"http://" + address + "/metrics", "alice@ORG", secret, http.StatusNotFound},
	} {
		if status, said := get(t, http.DefaultClient, c.url, c.user, c.password); status != c.want {
			t.Errorf("%s %s: %d, %s", c.url, c.user, status, said)
		}
	}
}

// TestNobodyKeepsAConnectionToTheEndpoint, whatever they ask for: few could keep all others out.
func TestNobodyKeepsAConnectionToTheEndpoint(t *testing.T) {
	t.Parallel()
	_, site := sodar(t, "sodar-1.3", "[sodar]", "endpoint = true")
	address, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	reconfigure(t, site, `metrics = ""`, fmt.Sprintf("metrics = \"\"\nlisten = %q", address))
	start(t, site)
	waitForLog(t, site, 0, `"msg":"an address of [http] is served","what":"SODAR's endpoint"`)
	for _, line := range []string{"GET /irodsbackend/api/auth", "POST /irodsbackend/api/auth", "GET /", "OPTIONS *"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: sodar\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
			t.Errorf("%s: %v after %q", line, err, answer)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, said := get(t, new(adminOf(site)), "http://tokend/metrics", "", ""); !strings.Contains(said, `tokend_up_dependency{dependency="sodar_endpoint"} 1`) {
		t.Error("the metrics have no endpoint that is up")
	}
}

// TestNobodyAnswersInSODARsPlaceUnasked: the endpoint is off where it is not turned on.
func TestNobodyAnswersInSODARsPlaceUnasked(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.3")
	address, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	reconfigure(t, site, `metrics = ""`, fmt.Sprintf("metrics = \"\"\nlisten = %q", address))
	start(t, site)
	secret := db.Mint(db.User("alice")).Reveal()
	if !opens(t, site, "alice", secret) {
		t.Error("it does not open iRODS")
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/irodsbackend/api/auth", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("alice", secret)
	reply, err := http.DefaultClient.Do(request)
	if err == nil {
		defer reply.Body.Close()
		t.Errorf("it answers %s", reply.Status)
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestNamesAreMappedAfterAReload, with no restart.
func TestNamesAreMappedAfterAReload(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.3", "[names]", "rules = []")
	daemon := start(t, site)
	secret := db.Mint(db.User("alice@b.org")).Reveal()
	if opens(t, site, "alice@B.ORG", secret) {
		t.Error("names are not exact")
	}
	reconfigure(t, site, "rules = []", `rules = ['(.+)@B\.ORG -> $1@b.org']`)
	hangup(t, site, daemon, `"changed":"names.rules"`)
	waitForLog(t, site, 0, "several iRODS users come in with the same tokens")
	if !opens(t, site, "alice@B.ORG", secret) || !opens(t, site, "alice@b.org", secret) || opens(t, site, "bob@B.ORG", secret) {
		t.Error("the rule does not hold")
	}
	reconfigure(t, site, `rules = ['(.+)@B\.ORG -> $1@b.org']`, `domain_case = "lower"`)
	hangup(t, site, daemon, `names.domain_case`)
	if !opens(t, site, "alice@B.oRG", secret) || opens(t, site, "Alice@b.org", secret) {
		t.Error("domain_case does not hold")
	}
}
