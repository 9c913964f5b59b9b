package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
)

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
			var dry, done, again, dryAgain report
			read(t, tokend(t, site, "", append(importing, "--dry-run")...), &dry)
			if list := tokend(t, site, "", "token", "list", "--json"); strings.TrimSpace(list) != "[]" {
				t.Errorf("the dry run has imported some: %.200s", list)
			}
			read(t, tokend(t, site, "", importing...), &done)
			read(t, tokend(t, site, "", importing...), &again)
			read(t, tokend(t, site, "", append(importing, "--dry-run")...), &dryAgain)
			wantBar(t, site, "importing", append(importing, "--dry-run")...)
			want := report{Read: many + 3, New: many, Expired: 1, Inactive: 1, Refused: 1, Labels: kind == "sodar-1.3"}
			if dry != want || done != want {
				t.Errorf("got %+v\nand %+v\nwant %+v", dry, done, want)
			}
			want.New, want.Known = 0, many
			if again != want || dryAgain != want {
				t.Errorf("again: got %+v\nand %+v\nwant %+v", again, dryAgain, want)
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
			if kind == "sodar-1.3" && !slices.ContainsFunc(list, func(one struct{ Label, Created, Expires, Scheme, ID string }) bool { return one.Label == "label 1003" }) {
				t.Errorf("none has the label 1003: %+v", list)
			}
			if len(list) != many/1000 || list[0].Created != "2026-01-02T03:04:05.678901Z" || list[0].Scheme == "" || (list[0].Label == "") != (kind == "sodar-1.2") {
				t.Errorf("%d tokens, the first is %+v", len(list), list[0])
			}
			ends := 0
			for _, one := range list {
				if one.Expires == "2126-01-02T03:04:05.678901Z" {
					ends++
				} else if one.Expires != "" {
					t.Errorf("one ends at %s", one.Expires)
				}
			}
			wantEnds := 0 // each third one ends
			for n := 3; n <= many; n += 1000 {
				if n%3 == 0 {
					wantEnds++
				}
			}
			if ends != wantEnds {
				t.Errorf("%d of %d end, want %d", ends, len(list), wantEnds)
			}
			tokend(t, site, "", "token", "revoke", "--user", "user4@ORG", "--all")
			if opens(t, site, "user4@ORG", secretOf(3)) {
				t.Error("it is revoked, and opens iRODS")
			}
		})
	}
}

// TestAnImportThatIsInterruptedSaysSo, whatever it was doing.
func TestAnImportThatIsInterruptedSaysSo(t *testing.T) {
	t.Parallel()
	server, err := postgreSQL()
	must(t, err)
	db, site := knoxtest.New(t, server, "knox-5"), newSite(t)
	start(t, site)
	connected := func(want bool) {
		eventually(t, "the import", func() (err error) {
			var is bool
			if err = db.Owner().QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = $1`, db.Role).Scan(&is); err == nil && is != want {
				err = fmt.Errorf("connected: %t", is)
			}
			return err
		})
	}
	db.Exec(`INSERT INTO knox_authtoken (digest, token_key, user_id) SELECT encode(sha512(n::text::bytea), 'hex'), 'abcdef', $1 FROM generate_series(1, 5000) AS n`, db.User("alice"))
	interrupted := 0
	for after := time.Duration(0); interrupted < 20; after += 5 * time.Millisecond {
		var out, errs strings.Builder
		connected(false)
		cmd := exec.CommandContext(t.Context(), site.Tokend(), "import", "knox", "--from", db.URL(), "--dry-run", "--admin-socket", site.AdminSocket())
		cmd.Stdout, cmd.Stderr = &out, &errs
		must(t, cmd.Start())
		connected(true)
		time.Sleep(after)
		must(t, cmd.Process.Signal(os.Interrupt))
		err := cmd.Wait()
		if err == nil {
			break // it was done
		}
		if interrupted++; cmd.ProcessState.ExitCode() != 1 || !strings.HasSuffix(errs.String(), "tokend: interrupted; nothing was imported\n") || strings.Contains(errs.String(), "answer") {
			t.Errorf("%s after its start: %v, it says %q and %q", after, err, errs.String(), out.String())
		}
	}
	if interrupted < 5 {
		t.Errorf("it was interrupted only %d times", interrupted)
	}
}

// TestOnlyTheTokensOfSomeUsersAreImported, from tables that have other names, by a role with a password.
func TestOnlyTheTokensOfSomeUsersAreImported(t *testing.T) {
	t.Parallel()
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, server.Stop)
	db := knoxtest.New(t, server, "knox-5")
	db.Exec(`CREATE ROLE ` + servers.WithPassword + ` LOGIN PASSWORD 'open sesame' IN ROLE ` + db.Role)
	site := newSite(t)
	start(t, site)
	secrets := map[string]string{}
	for _, user := range []string{"alice@ORG", "bob@ORG", "carol"} {
		secrets[user] = db.Mint(db.User(user)).Reveal()
	}
	db.Exec(`ALTER TABLE knox_authtoken RENAME TO tok; ALTER TABLE tok ALTER token_key TYPE varchar(40);
		ALTER TABLE auth_user RENAME TO accounts; ALTER TABLE accounts RENAME username TO login; ALTER TABLE accounts RENAME is_active TO ok`)
	write(t, site, "password", "open sesame\n")
	from := server.URLAs(servers.WithPassword, db.Database())
	here, err := os.Getwd()
	must(t, err)
	relative, err := filepath.Rel(here, site.Path("password"))
	must(t, err)
	importing := []string{"import", "knox", "--from", from, "--password-file", relative, "--token-table", "tok", "--user-table", "accounts",
		"--username-column", "login", "--active-column", "ok", "--scheme", "5", "--user", "alice@ORG", "--user", "carol", "--user", "nobody"}
	for _, flag := range []string{"--password-file", "--token-table", "--user-table", "--username-column", "--active-column", "--scheme"} {
		i := slices.Index(importing, flag)
		if out, err := site.Run(t.Context(), "", slices.Concat(importing[:i], importing[i+2:])...); err == nil {
			t.Errorf("without %s: %s", flag, out)
		}
	}
	var done struct {
		Read, New int
		None      []string `json:"users_without_tokens"`
	}
	said := tokend(t, site, "", append(importing, "--json", "--dry-run")...)
	if err := json.Unmarshal([]byte(said), &done); err != nil || strings.Contains(said, "null") {
		t.Fatal(err, said)
	}
	if done.New != 2 || done.Read != 2 || !slices.Equal(done.None, []string{"nobody"}) {
		t.Errorf("got %+v", done)
	}
	if said = tokend(t, site, "", importing...); !strings.HasPrefix(said, "imported 2 tokens of 2 tokens from ") {
		t.Errorf("it says %s", said)
	}
	for user, secret := range secrets {
		if opens(t, site, user, secret) != (user != "bob@ORG") {
			t.Errorf("that of %s was not to be imported, or was not", user)
		}
	}
	beside := newSite(t, "[knox]", fmt.Sprintf("url = %q", from), fmt.Sprintf("password_file = %q", site.Path("password")), `token_table = "tok"`, `user_table = "accounts"`,
		`username_column = "login"`, `active_column = "ok"`, `scheme = "5"`)
	start(t, beside)
	for user, secret := range secrets {
		if !opens(t, beside, user, secret) {
			t.Errorf("beside these tables, that of %s does not open iRODS: %s", user, lastReason(t, beside))
		}
	}
}

// TestNobodyNeedsANewTokenWhenSODARIsUpgradedOrLeaves: what was imported from SODAR 1.2 opens iRODS beside 1.3, whose own
// tokens do, too, and after it.
func TestNobodyNeedsANewTokenWhenSODARIsUpgradedOrLeaves(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "sodar-1.2", `refresh = "1s"`)
	daemon, err := site.Start(t.Context())
	must(t, err)
	alice, bob := db.User("alice@ORG"), db.User("bob@ORG")
	old, gone := db.Mint(alice).Reveal(), db.Mint(bob).Reveal()
	tokend(t, site, "", "import", "knox", "--from", db.URL())
	wantOpens := func(when string, want map[[2]string]bool) {
		t.Helper()
		for who, want := range want {
			eventually(t, when, func() error {
				if got := opens(t, site, who[0], who[1]); got != want {
					return fmt.Errorf("%s: the token of %s opens iRODS: %t, %s", when, who[0], got, lastReason(t, site))
				}
				return nil
			})
		}
	}
	wantOpens("beside SODAR 1.2", map[[2]string]bool{{"alice@ORG", old}: true, {"bob@ORG", gone}: true, {"bob@ORG", old}: false})
	_, tables, _ := strings.Cut(knoxtest.DDL("sodar-1.3"), "CREATE TABLE tokens_")
	db.Exec(`BEGIN; DROP TABLE knox_authtoken; CREATE TABLE tokens_` + tables + `; COMMIT`)
	db.Tokens, db.Scheme = "tokens_sodarauthtoken", token.Knox5
	db.Grant()
	fresh := db.Mint(alice).Reveal()
	db.Exec(`UPDATE users_user SET is_active = false WHERE id = $1`, bob)
	wantOpens("beside SODAR 1.3", map[[2]string]bool{{"alice@ORG", fresh}: true, {"alice@ORG", old}: true, {"bob@ORG", gone}: false, {"bob@ORG", old}: false})
	tokend(t, site, "", "import", "knox", "--from", db.URL())
	said, err := exec.CommandContext(t.Context(), site.Tokend(), "token", "revoke", "--user", "bob@ORG", "--all", "--admin-socket", site.AdminSocket()).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "it was imported; if [knox] url leads to a site that has it still, delete it there, too") {
		t.Errorf("a revoke of what the site may have says %s, %v", said, err)
	}
	must(t, daemon.Stop())
	reconfigure(t, site, "[knox]", "")
	reconfigure(t, site, fmt.Sprintf("url = %q\nrefresh = \"1s\"", db.URL()), "")
	start(t, site)
	wantOpens("without SODAR", map[[2]string]bool{{"alice@ORG", fresh}: true, {"alice@ORG", old}: true, {"bob@ORG", gone}: false, {"bob@ORG", fresh}: false})
}

// TestTokensWithTheSitesPrefixOpen where [knox] prefix names it, beside its database and once they are imported.
func TestTokensWithTheSitesPrefixOpen(t *testing.T) {
	t.Parallel()
	db, site := sodar(t, "knox-5", `prefix = "irods_"`)
	with, err := token.ParseKnox("irods_"+knoxtest.NewToken().Reveal(), "irods_")
	if err != nil {
		t.Fatal(err)
	}
	db.Keep(with, db.User("alice"), nil)
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !opens(t, site, "alice", with.Reveal()) || opens(t, site, "alice", with.Reveal()[len("irods_"):]) {
		t.Error("it does not open iRODS as it is spelled, and only so")
	}
	tokend(t, site, "", "import", "knox", "--from", db.URL())
	if err := daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	reconfigure(t, site, fmt.Sprintf("url = %q\nprefix", db.URL()), "prefix")
	start(t, site)
	if !opens(t, site, "alice", with.Reveal()) || opens(t, site, "alice", with.Reveal()[len("irods_"):]) {
		t.Error("imported, it does not open iRODS as it is spelled, and only so")
	}
	tokend(t, site, with.Reveal()+"\n", "token", "revoke", "--secret", "-")
	if opens(t, site, "alice", with.Reveal()) {
		t.Error("it was found and revoked, and opens iRODS")
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
