package knox_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

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
			var log lines
			running := s.open(t)
			_, err := s.find(t, running, secret)
			check(err)
			s.Exec(`GRANT CREATE ON SCHEMA public TO ` + s.Role)
			s.Exec(strings.NewReplacer("ROLE", s.Role, "DIGEST", s.Digest(forged).String(), "KEY", forged.Reveal()[:15]).Replace(sql))
			for _, store := range []*knox.Store{running, s.open(t, logTo(&log))} {
				for range 3 {
					if _, err := s.find(t, store, secret); err != nil {
						t.Errorf("the site's token: %v", err)
					}
					if _, err := s.find(t, store, forged); !errors.Is(err, token.ErrNotFound) {
						t.Errorf("a forged one: %v", err)
					}
				}
			}
			if n := log.count("what may be the site's is not read"); n != 1 && what != "in a schema before" {
				t.Errorf("the log says %d times that a table is passed over:\n%s", n, log.text.String())
			}
			if strings.Contains(sql, "tokens_sodarauthtoken") {
				s.Exec(`DROP TABLE knox_authtoken`)
				wantWords(t, "the site's is gone", s.open(t).Err(), "there is no table tokens_sodarauthtoken or knox_authtoken", "public.tokens_sodarauthtoken is of "+s.Role)
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
	wantWords(t, "found", s.open(t).Err(), "there is no table users_user or auth_user", "public.auth_user is of pg_monitor, who is neither the database's owner nor a superuser", "name it in [knox] user_table")
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

// TestAColumnThatIsGoneIsNobodysFunction: PostgreSQL takes u.is_active for is_active(u) where there is no such column.
func TestAColumnThatIsGoneIsNobodysFunction(t *testing.T) {
	t.Parallel()
	for column, c := range map[string]struct{ table, result, as string }{
		"is_active": {"users_user", "boolean", "true"}, "username": {"users_user", "text", "'alice'"}, "id": {"users_user", "integer", "1"},
		"expiry": {"tokens_sodarauthtoken", "timestamptz", "NULL"}, "user_id": {"tokens_sodarauthtoken", "integer", "1"},
	} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "sodar-1.3")
			secret := s.Mint(s.User("alice"))
			store := s.open(t)
			_, err := s.find(t, store, secret)
			check(err)
			s.Exec(`CREATE FUNCTION public.` + column + `(` + c.table + `) RETURNS ` + c.result + ` LANGUAGE sql AS $$SELECT ` + c.as + `::` + c.result + `$$`)
			s.Exec(`ALTER TABLE ` + c.table + ` RENAME ` + column + ` TO other; GRANT SELECT ON ` + c.table + ` TO ` + s.Role) // of its whole rows
			if r, err := s.find(t, store, secret); !errors.Is(err, token.ErrDrift) {
				t.Errorf("%q, %v", r.Owner, err)
			}
		})
	}
}

// TestASetTableIsThatOfTheRolesFirstSchema, whoever else has one of the name.
func TestASetTableIsThatOfTheRolesFirstSchema(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(forRole(`CREATE SCHEMA "the ""site"; GRANT USAGE ON SCHEMA "the ""site" TO ROLE; ALTER USER ROLE SET search_path = "the ""site", public;
		CREATE TABLE copy (LIKE knox_authtoken); GRANT SELECT ON copy TO ROLE; ALTER TABLE knox_authtoken SET SCHEMA "the ""site"; ALTER TABLE copy RENAME TO knox_authtoken;
		ALTER TABLE "the ""site".knox_authtoken OWNER TO pg_monitor`, s.Role))
	if _, err := s.find(t, s.open(t, func(c *knox.Config) { c.Tables.Tokens = "knox_authtoken" }), secret); err != nil {
		t.Error(err)
	}
}

// TestWhileNothingAnswersTheTablesAreNoBetter than they were found to be.
func TestWhileNothingAnswersTheTablesAreNoBetter(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	secret := s.Mint(s.User("alice"))
	store, proxy := s.openByProxy(t)
	s.Exec(`ALTER TABLE tokens_sodarauthtoken RENAME TO away`)
	await(t, "the drift", func() bool { _, err := s.find(t, store, secret); return errors.Is(err, token.ErrDrift) })
	proxy.Cut()
	for begun := time.Now(); time.Since(begun) < 2500*time.Millisecond; time.Sleep(20 * time.Millisecond) { // each second it is looked for again
		if _, err := store.Scheme(); !errors.Is(err, token.ErrDrift) {
			t.Fatal(err)
		}
	}
	s.Exec(`ALTER TABLE away RENAME TO tokens_sodarauthtoken`)
	proxy.Heal()
	await(t, "the tables", func() bool { _, err := s.find(t, store, secret); return err == nil })
}
