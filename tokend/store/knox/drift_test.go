package knox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

// TestSaltedTokensAreRefusedAtTheStart: Knox 4.1 and older.
func TestSaltedTokensAreRefusedAtTheStart(t *testing.T) {
	s := newSite(t, "sodar-1.2")
	s.Exec(`ALTER TABLE knox_authtoken ADD salt varchar(16) NOT NULL DEFAULT ''`)
	_, err := knox.Open(t.Context(), knox.Config{URL: s.URL()})
	wantWords(t, "salted", err, "its tokens are salted, as Knox 4.1 and older keep them", "upgrade django-rest-knox to 4.2 or later")
}

// TestOwnersOfAnotherTableAreNotTaken for those of the users that were found, and what the role may not look at is told
// with its remedy.
func TestOwnersOfAnotherTableAreNotTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	s.Exec(`CREATE TABLE auth_user (LIKE users_user INCLUDING ALL); GRANT SELECT ON auth_user TO ` + s.Role)
	for what, c := range map[string]struct {
		tables knox.Tables
		words  []string
	}{
		"the other users": {knox.Tables{Users: "auth_user"}, []string{"the owners in public.tokens_sodarauthtoken are those of public.users_user, and not of public.auth_user: set [knox] user_table"}},
		"a closed schema": {knox.Tables{Tokens: "closed.tok"}, []string{"the role may not look for the table", `GRANT USAGE ON SCHEMA closed TO "` + s.Role}},
	} {
		s.Exec(`CREATE SCHEMA IF NOT EXISTS closed; CREATE TABLE IF NOT EXISTS closed.tok (LIKE tokens_sodarauthtoken)`)
		store := s.open(t, func(cfg *knox.Config) { cfg.Tables = c.tables })
		wantWords(t, what, store.Err(), c.words...)
	}
}

// TestWhoMayNotConnectIsToldSo, and not to own the site's database.
func TestWhoMayNotConnectIsToldSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	s.Exec(`REVOKE CONNECT ON DATABASE ` + s.Database() + ` FROM PUBLIC`)
	wantWords(t, "no right to connect", s.open(t).Err(), "the user of [knox] url may not connect to this database", "GRANT CONNECT ON DATABASE")
}

// TestATableOfSomebodyElsesIsNoneOfTheSites: who may make tables there lets nobody in, and keeps nobody out.
func TestATableOfSomebodyElsesIsNoneOfTheSites(t *testing.T) {
	t.Parallel()
	const tokens = `CREATE TABLE tokens_sodarauthtoken (LIKE knox_authtoken); ALTER TABLE tokens_sodarauthtoken ALTER token_key TYPE varchar(25), OWNER TO ROLE;`
	const users = `CREATE TABLE users_user (id integer, username varchar(150), is_active boolean); INSERT INTO users_user (id, username, is_active) VALUES (1, 'alice', true);
		ALTER TABLE users_user OWNER TO ROLE;`
	const row = `INSERT INTO %s (digest, token_key, user_id, created) VALUES ('DIGEST', 'KEY', 1, now());`
	for what, sql := range map[string]string{
		"tokens":                 tokens + fmt.Sprintf(row, "tokens_sodarauthtoken"),
		"users":                  users,
		"users without a column": `CREATE TABLE users_user (); ALTER TABLE users_user OWNER TO ROLE`,
		"both":                   users + tokens + fmt.Sprintf(row, "tokens_sodarauthtoken"),
		"in a schema before":     `CREATE SCHEMA ROLE; CREATE TABLE ROLE.auth_user (LIKE auth_user); ALTER TABLE ROLE.auth_user OWNER TO ROLE; GRANT USAGE ON SCHEMA ROLE TO ROLE`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "knox-5")
			secret, forged := s.Mint(s.User("alice")), knoxtest.NewToken()
			running := s.open(t)
			_, err := s.find(t, running, secret)
			check(err)
			s.Exec(`GRANT CREATE ON SCHEMA public TO ` + s.Role)
			s.Exec(strings.NewReplacer("ROLE", s.Role, "DIGEST", s.Digest(forged).String(), "KEY", forged.Reveal()[:15]).Replace(sql))
			for _, store := range []*knox.Store{running, s.open(t)} {
				for range 3 {
					if _, err := s.find(t, store, secret); err != nil {
						t.Errorf("the site's token: %v", err)
					}
					if _, err := s.find(t, store, forged); !errors.Is(err, token.ErrNotFound) {
						t.Errorf("a forged one: %v", err)
					}
				}
			}
			if strings.Contains(sql, "tokens_sodarauthtoken") {
				s.Exec(`DROP TABLE knox_authtoken`)
				wantWords(t, "the site's is gone", s.open(t).Err(), "there is no table tokens_sodarauthtoken or knox_authtoken", "public.tokens_sodarauthtoken is not taken for it: it is of "+s.Role)
			}
		})
	}
}

// TestATableInThePlaceOfTheSitesIsNotBelieved, such as one that somebody makes while it is renamed.
func TestATableInThePlaceOfTheSitesIsNotBelieved(t *testing.T) {
	t.Parallel()
	for what, tables := range map[string]knox.Tables{"found": {}, "set by hand": {Tokens: "tokens_sodarauthtoken"}} {
		for _, table := range []string{"tokens_sodarauthtoken", "users_user"} {
			t.Run(what+" "+table, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, "sodar-1.3")
				secret := s.Mint(s.User("alice"))
				store := s.open(t, func(c *knox.Config) { c.Tables = tables })
				_, err := s.find(t, store, secret)
				check(err)
				s.Exec(forRole(`GRANT CREATE ON SCHEMA public TO ROLE; CREATE TABLE copy (LIKE `+table+`); INSERT INTO copy SELECT * FROM `+table+`;
					ALTER TABLE copy OWNER TO ROLE; ALTER TABLE `+table+` RENAME TO old; ALTER TABLE copy RENAME TO `+table, s.Role))
				if _, err := store.MayLogIn(t.Context(), "alice"); table == "users_user" && !errors.Is(err, token.ErrDrift) {
					t.Errorf("who may log in: %v", err)
				}
				for range 3 {
					if _, err := s.find(t, store, secret); !errors.Is(err, token.ErrDrift) {
						t.Errorf("got %v", err)
					}
				}
			})
		}
	}
}

// TestTablesOfSomeOtherOwnerAreTakenByHandAlone: it is said whose they are.
func TestTablesOfSomeOtherOwnerAreTakenByHandAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(`ALTER TABLE auth_user OWNER TO pg_monitor; ALTER TABLE knox_authtoken OWNER TO pg_monitor`)
	wantWords(t, "found", s.open(t).Err(), "there is no table users_user or auth_user", "public.auth_user is not taken for it: it is of pg_monitor, who is neither the database's owner nor a superuser", "name it in [knox] user_table")
	for _, tables := range []knox.Tables{{Users: "auth_user"}, {Tokens: "knox_authtoken"}, {Users: "auth_user", Tokens: "public.knox_authtoken"}} {
		if _, err := s.find(t, s.open(t, func(c *knox.Config) { c.Tables = tables }), secret); err != nil {
			t.Errorf("%+v: %v", tables, err)
		}
	}
	for _, step := range []struct{ owner, sql string }{
		{"the database's owner", `ALTER DATABASE ` + s.Database() + ` OWNER TO pg_monitor`},
		{"a superuser", `ALTER TABLE auth_user OWNER TO tokend; ALTER TABLE knox_authtoken OWNER TO tokend`},
	} {
		s.Exec(step.sql)
		if _, err := s.find(t, s.open(t), secret); err != nil {
			t.Errorf("of %s: %v", step.owner, err)
		}
	}
}

// TestNobodysOperatorsAreUsed but PostgreSQL's own: in a schema where one may make tables one may make these, too.
func TestNobodysOperatorsAreUsed(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	secret, other := s.Mint(s.User("alice")), knoxtest.NewToken()
	const raises = ` LANGUAGE plpgsql AS 'BEGIN RAISE ''it is not of PostgreSQL''; END'`
	for left, rights := range map[string]string{
		"oid": "oid regclass int4 int8", "varchar": "text varchar", "text": "text varchar", "name": "text name varchar", "int4": "int4 int8", "int8": "int4 int8",
	} {
		for right := range strings.FieldsSeq(rights) {
			s.Exec(`CREATE FUNCTION public.no(` + left + `, ` + right + `) RETURNS boolean` + raises + `;
				CREATE OPERATOR public.= (FUNCTION = public.no, LEFTARG = ` + left + `, RIGHTARG = ` + right + `)`)
		}
	}
	for _, f := range []string{"unnest(text[])", "cardinality(text[])", "to_regclass(varchar)", "row_security_active(varchar)", "row_security_active(int4)", "format_type(oid, int8)", "quote_ident(name)"} {
		s.Exec(`CREATE FUNCTION public.` + f + ` RETURNS text` + raises)
	}
	store := s.open(t)
	for range 2 {
		if r, err := s.find(t, store, secret); err != nil || r.Owner != "alice" {
			t.Errorf("%s, %v", r.Owner, err)
		}
		if _, err := s.find(t, store, other); !errors.Is(err, token.ErrNotFound) {
			t.Error(err)
		}
	}
	if may, err := store.MayLogIn(t.Context(), "alice"); err != nil || !may {
		t.Errorf("alice may: %t, %v", may, err)
	}
	if n, err := store.Count(t.Context(), []string{"alice"}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	for _, err := range store.All(t.Context(), []string{"alice"}) {
		check(err)
	}
}

// TestDriftIsSaidAndMends: never is a token taken for wrong, and no restart is needed.
func TestDriftIsSaidAndMends(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		harm, mend string
		words      []string
	}{
		"the table is gone": {
			`ALTER TABLE tokens_sodarauthtoken RENAME TO away`, `ALTER TABLE away RENAME TO tokens_sodarauthtoken`,
			[]string{"there is no table tokens_sodarauthtoken or knox_authtoken that this role can see", "set [knox] token_table"},
		},
		"the users are gone": {
			`ALTER TABLE users_user RENAME TO away`, `ALTER TABLE away RENAME TO users_user`,
			[]string{"there is no table users_user or auth_user that this role can see", "set [knox] user_table"},
		},
		"a right is missing": {
			`REVOKE SELECT (expiry) ON tokens_sodarauthtoken FROM ROLE`, `GRANT SELECT (expiry) ON tokens_sodarauthtoken TO ROLE`,
			[]string{`have the table's owner say: GRANT SELECT ("expiry") ON public.tokens_sodarauthtoken TO "`},
		},
		"a right of the users is missing": {
			`REVOKE SELECT (is_active, username) ON users_user FROM ROLE`, `GRANT SELECT (is_active, username) ON users_user TO ROLE`,
			[]string{`GRANT SELECT ("username", "is_active") ON public.users_user TO "`},
		},
		"a column is renamed": {
			`ALTER TABLE tokens_sodarauthtoken RENAME token_key TO token_start`, `ALTER TABLE tokens_sodarauthtoken RENAME token_start TO token_key`,
			[]string{"the table public.tokens_sodarauthtoken has no column token_key", "is it Knox's"},
		},
		"a column of the users is renamed": {
			`ALTER TABLE users_user RENAME username TO login`, `ALTER TABLE users_user RENAME login TO username`,
			[]string{"the table public.users_user has no column username", "set [knox] user_table, username_column or active_column"},
		},
		"the tokens are salted": {
			`ALTER TABLE tokens_sodarauthtoken ADD salt text; ALTER TABLE tokens_sodarauthtoken RENAME digest TO d`,
			`ALTER TABLE tokens_sodarauthtoken DROP salt; ALTER TABLE tokens_sodarauthtoken RENAME d TO digest`,
			[]string{"its tokens are salted"},
		},
		"the key is of no Knox": {
			`ALTER TABLE tokens_sodarauthtoken ALTER token_key TYPE varchar(40)`,
			`ALTER TABLE tokens_sodarauthtoken ALTER token_key TYPE varchar(25)`,
			[]string{"token_key of public.tokens_sodarauthtoken is character varying(40), which neither Knox 4.2 (8 characters) nor Knox 5 (15 or 25) makes", "set [knox] scheme"},
		},
		"rows are hidden": {
			`ALTER TABLE tokens_sodarauthtoken ENABLE ROW LEVEL SECURITY`, `ALTER TABLE tokens_sodarauthtoken DISABLE ROW LEVEL SECURITY`,
			[]string{"row-level security may hide rows of public.tokens_sodarauthtoken from the role", "BYPASSRLS"},
		},
		"a column is of another type": {
			`ALTER TABLE users_user ALTER is_active DROP DEFAULT, ALTER is_active TYPE integer USING is_active::int`,
			`ALTER TABLE users_user ALTER is_active TYPE boolean USING is_active::bool`,
			[]string{"the column is_active of public.users_user is integer, and not boolean"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "sodar-1.3")
			secret := s.Mint(s.User("alice"))
			var log lines
			store := s.open(t, logTo(&log))
			_, err := s.find(t, store, secret)
			check(err)
			s.Exec(forRole(c.harm, s.Role))
			for begun := range 3 {
				if _, err := s.find(t, store, secret); !errors.Is(err, token.ErrDrift) && !saltedNow(err) {
					t.Fatalf("look-up %d: %v", begun, err)
				}
				if _, err := s.find(t, store, knoxtest.NewToken()); err == nil || errors.Is(err, token.ErrNotFound) {
					t.Fatalf("a token that there is not, look-up %d: %v", begun, err)
				}
			}
			await(t, "the reason", func() bool { return store.Err() != nil && has(store.Err(), c.words) })
			wantWords(t, "a look-up", lookUpErr(t, s, store, secret), c.words...)
			s.Exec(forRole(c.mend, s.Role))
			await(t, "the tables", func() bool { _, err := s.find(t, store, secret); return err == nil })
			if err := store.Err(); err != nil {
				t.Errorf("mended, it says %v", err)
			}
			if n := log.count("level=WARN"); n < 1 || n > 2 {
				t.Errorf("the log has %d warnings:\n%s", n, log.text.String())
			}
			if n := log.count("tokens of Knox are read"); n != 2 {
				t.Errorf("the log says %d times that they are read", n)
			}
		})
	}
}

func saltedNow(err error) bool { return err != nil && has(err, []string{"its tokens are salted"}) }

func lookUpErr(t *testing.T, s *site, store *knox.Store, secret token.Knox) error {
	t.Helper()
	_, err := s.find(t, store, secret)
	return err
}
