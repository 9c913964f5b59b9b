package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	if status, said := ready(t, site); status != http.StatusServiceUnavailable || said != "not ready: the tables of Knox are not what they should be; the log says more" {
		t.Errorf("/readyz has status %d and says %q", status, said)
	}
	waitForLog(t, site, 0, `GRANT SELECT (\"digest\", \"token_key\", \"user_id\", \"expiry\") ON public.tokens_sodarauthtoken TO`)
	db.Grant()
	for begun := time.Now(); !opens(t, site, "alice@ORG", fresh.Reveal()); time.Sleep(50 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("with the grant, the new token is refused")
		}
	}
	if status, said := ready(t, site); status != http.StatusOK || said != "ready" {
		t.Errorf("with the grant, /readyz has status %d and says %q", status, said)
	}
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
	if out, err := site.Run(t.Context(), "", "token", "create", "--user", "alice"); err == nil || !strings.Contains(err.Error()+out, "this daemon keeps no tokens of its own") {
		t.Errorf("a token is made: %s, %v", out, err)
	}
	if out := tokend(t, site, "", "token", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("the list has %s", out)
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

// TestAHundredThousandTokensAreImported, and go on opening iRODS once SODAR is gone; again is no harm.
func TestAHundredThousandTokensAreImported(t *testing.T) {
	t.Parallel()
	for kind, many := range map[string]int{"sodar-1.2": 2000, "sodar-1.3": 100_000} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			db, site := sodar(t, kind)
			db.Exec(`INSERT INTO users_user (username) SELECT 'user' || n || '@ORG' FROM generate_series(1, 1000) AS n`)
			digest, key, label := `sha512(convert_to(secret, 'UTF8'))`, 15, `, 'label ' || n`
			columns := "digest, token_key, user_id, created, expiry, sodar_label"
			if kind == "sodar-1.2" {
				digest, key, label, columns = `sha512(decode(secret, 'hex'))`, 8, "", "digest, token_key, user_id, created, expiry"
			}
			db.Exec(fmt.Sprintf(`INSERT INTO %s (%s)
				SELECT encode(%s, 'hex'), left(secret, %d), n %% 1000 + 1, '2026-01-02 03:04:05.678901+00',
					CASE n %% 3 WHEN 0 THEN '2126-01-02 03:04:05.678901+00'::timestamptz END%s
				FROM generate_series(1, $1::int) AS n, LATERAL (SELECT encode(sha256(convert_to('secret ' || n, 'UTF8')), 'hex') AS secret) AS s`,
				db.Tokens, columns, digest, key, label), many)
			db.Exec(fmt.Sprintf(`GRANT SELECT ON %s TO %s`, db.Tokens, db.Role))
			expired, inactive, odd := db.User("eve"), db.User("dave"), db.User("no such name")
			db.Keep(knoxtest.NewToken(), expired, time.Now().Add(-time.Second))
			db.Keep(knoxtest.NewToken(), inactive, nil)
			db.Keep(knoxtest.NewToken(), odd, nil)
			db.Exec(`UPDATE users_user SET is_active = false WHERE id = $1`, inactive)
			daemon, err := site.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			importing := []string{"import", "knox", "--from", db.URL(), "--json"}
			var dry, done, again report
			read(t, tokend(t, site, "", append(importing, "--dry-run")...), &dry)
			if list := tokend(t, site, "", "token", "list", "--json"); strings.TrimSpace(list) != "[]" {
				t.Errorf("the dry run has imported some: %.200s", list)
			}
			read(t, tokend(t, site, "", importing...), &done)
			read(t, tokend(t, site, "", importing...), &again)
			want := report{Read: many + 3, New: many, Expired: 1, Inactive: 1, Refused: 1, Labels: kind == "sodar-1.3"}
			if dry != want || done != want {
				t.Errorf("got %+v\nand %+v\nwant %+v", dry, done, want)
			}
			want.New, want.Known = 0, many
			if again != want {
				t.Errorf("again: got %+v, want %+v", again, want)
			}
			if err := daemon.Stop(); err != nil {
				t.Fatal(err)
			}
			reconfigure(t, site, "[knox]", "") // which leaves its url under [log]
			reconfigure(t, site, fmt.Sprintf("url = %q", db.URL()), "")
			db.Exec(`DROP TABLE ` + db.Tokens)
			start(t, site)
			for _, n := range []int{1, 2, 3, many / 2, many} {
				secret := secretOf(n)
				user := fmt.Sprintf("user%d@ORG", n%1000+1)
				if !opens(t, site, user, secret) {
					t.Errorf("token %d does not open iRODS any more: %s", n, lastReason(t, site))
				}
				if opens(t, site, "alice", secret) || opens(t, site, user, secretOf(many+n)) {
					t.Errorf("token %d opens it for somebody else, or one that there is not", n)
				}
			}
			var list []struct{ Label, Created, Expires, Scheme, ID string }
			if err := json.Unmarshal([]byte(tokend(t, site, "", "token", "list", "--user", "user4@ORG", "--json")), &list); err != nil {
				t.Fatal(err)
			}
			if len(list) != many/1000 || list[0].Created != "2026-01-02T03:04:05.678901Z" || list[0].Scheme == "" {
				t.Errorf("%d tokens, the first is %+v", len(list), list[0])
			}
			tokend(t, site, "", "token", "revoke", "--user", "user4@ORG", "--all")
			if opens(t, site, "user4@ORG", secretOf(3)) {
				t.Error("it is revoked, and opens iRODS")
			}
		})
	}
}

// secretOf is what the SQL above makes of the number.
func secretOf(n int) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(fmt.Sprint("secret ", n))))
}

// report is what an import says, as far as it is counted.
type report struct {
	Read, New, Known, Expired, Inactive, Refused int
	Labels                                       bool
}

func read(t *testing.T, text string, r *report) {
	t.Helper()
	said := struct {
		*report
		Refused []any
	}{report: r}
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	r.Refused = len(said.Refused)
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
	if !opens(t, site, "alice@B.ORG", secret) || !opens(t, site, "alice@b.org", secret) || opens(t, site, "bob@B.ORG", secret) {
		t.Error("the rule does not hold")
	}
}
