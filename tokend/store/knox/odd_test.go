package knox_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

// TestASchemeThatTheTableContradictsIsDrift: by it, each token would be a wrong one.
func TestASchemeThatTheTableContradictsIsDrift(t *testing.T) {
	forEachSite(t, func(t *testing.T, s *site) {
		secret := s.Mint(s.User("alice"))
		for _, set := range []knox.Scheme{knox.Knox4, knox.Knox5} {
			store := s.open(t, func(c *knox.Config) { c.Tables.Scheme = set })
			is := set == knox.Knox4 == (s.Scheme == token.Knox4)
			_, err := s.find(t, store, secret)
			switch {
			case is && err != nil, !is && !errors.Is(err, token.ErrDrift):
				t.Errorf("%s: %v", set, err)
			case !is:
				wantWords(t, "the reason", err, "and [knox] scheme says "+string(set)+": leave that out")
			}
		}
	})
}

// TestAUserMayBeKnownByTheirName alone, which is the key, or by a view that is set by hand.
func TestAUserMayBeKnownByTheirName(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		sql    string
		tables knox.Tables
	}{
		"the key": {`ALTER TABLE knox_authtoken DROP user_id; DROP TABLE auth_user;
			CREATE TABLE auth_user (username varchar(150) PRIMARY KEY, is_active boolean NOT NULL DEFAULT true);
			ALTER TABLE knox_authtoken ADD user_id varchar(150) REFERENCES auth_user;
			INSERT INTO auth_user VALUES ('alice'); UPDATE knox_authtoken SET user_id = 'alice';
			GRANT SELECT ON auth_user, knox_authtoken TO ROLE`, knox.Tables{}},
		"a view": {`CREATE VIEW people AS SELECT id, username AS login, is_active FROM auth_user; GRANT SELECT ON people TO ROLE`,
			knox.Tables{Users: "people", Username: "login"}},
	} {
		s := newSite(t, "knox-5")
		secret := s.Mint(s.User("alice"))
		s.Exec(forRole(c.sql, s.Role))
		store := s.open(t, func(cfg *knox.Config) { cfg.Tables = c.tables })
		for range 2 {
			if r, err := s.find(t, store, secret); err != nil || r.Owner != "alice" || r.OwnerDisabled {
				t.Errorf("%s: %+v, %v", what, r, err)
			}
			if may, err := store.MayLogIn(t.Context(), "alice"); err != nil || !may {
				t.Errorf("%s: may log in: %t, %v", what, may, err)
			}
		}
	}
}

// TestAViewIsTakenByHandAlone, and only if each token has one owner in it.
func TestAViewIsTakenByHandAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(forRole(`CREATE VIEW users_user AS SELECT id, 'bob'::varchar AS username, is_active FROM auth_user; GRANT SELECT ON users_user TO ROLE`, s.Role))
	wantWords(t, "found", lookUpErr(t, s, s.open(t), secret), "the owners in public.knox_authtoken are those of public.auth_user, and not of public.users_user: set [knox] user_table")
	s.Exec(forRole(`CREATE VIEW twice AS SELECT id, username, is_active FROM auth_user UNION ALL SELECT id, 'zoe', is_active FROM auth_user WHERE username = 'alice'; GRANT SELECT ON twice TO ROLE`, s.Role))
	store, bobs := s.open(t, func(c *knox.Config) { c.Tables.Users = "twice" }), s.Mint(s.User("bob"))
	err := lookUpErr(t, s, store, secret)
	wantWords(t, "two owners", err, "a token is there twice")
	if !errors.Is(err, token.ErrDrift) || store.Err() != nil { // so that nothing older is believed of it
		t.Errorf("two owners: %v, %v", err, store.Err())
	}
	if all, err := store.LookupAll(t.Context(), s.Digest(secret)); err != nil || len(all) != 0 {
		t.Errorf("read again: %+v, %v", all, err)
	}
	all, err := store.LookupAll(t.Context(), s.Digest(secret), s.Digest(bobs))
	if r, ok := all[s.Digest(bobs)]; err != nil || len(all) != 1 || !ok || r.Owner != "bob" {
		t.Errorf("beside it: %+v, %v", all, err)
	}
	for _, users := range [][]string{nil, {"bob"}} {
		_, err := store.Count(t.Context(), users)
		wantWords(t, "an import", err, "a token is there twice")
	}
}

// TestAViewThatMayNotReadIsDrift: the role may read it, and its owner no more what it shows.
func TestAViewThatMayNotReadIsDrift(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	secret, owner := s.Mint(s.User("alice")), s.Role+"_owner"
	s.Exec(`CREATE VIEW people AS SELECT id, username, is_active FROM auth_user; GRANT SELECT ON people TO ` + s.Role)
	s.Exec(`CREATE ROLE ` + owner + `; GRANT SELECT ON auth_user TO ` + owner)
	t.Cleanup(func() { s.Exec(`DROP OWNED BY ` + owner + `; DROP ROLE ` + owner) })
	s.Exec(`ALTER VIEW people OWNER TO ` + owner)
	store := s.open(t, func(c *knox.Config) { c.Tables.Users = "people" })
	if _, err := store.Lookup(t.Context(), s.Digest(secret)); err != nil {
		t.Error(err)
	}
	s.Exec(`REVOKE SELECT ON auth_user FROM ` + owner)
	wantWords(t, "a right of the view's owner", lookUpErr(t, s, store, secret), "permission denied for table auth_user")
	for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(20 * time.Millisecond) { // it is looked for each second
		if err := store.Err(); !errors.Is(err, token.ErrDrift) {
			t.Fatalf("the tables are said to be what they should be: %v", err)
		}
	}
	s.Exec(`GRANT SELECT ON auth_user TO ` + owner)
	await(t, "it is mended", func() bool { _, err := store.Lookup(t.Context(), s.Digest(secret)); return err == nil })
}

// TestATypeOfAnotherSchemaIsNoDrift: it has another name for each who looks.
func TestATypeOfAnotherSchemaIsNoDrift(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(`CREATE DOMAIN public.short AS varchar(25); ALTER TABLE knox_authtoken ALTER token_key TYPE public.short`)
	store := s.open(t, func(c *knox.Config) { c.Tables.Scheme = knox.Knox5 })
	for range 2 {
		if r, err := s.find(t, store, secret); err != nil || r.Owner != "alice" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestWhatAnImportFindsChangedIsSaidOfTheSite, and not of tokend's own database.
func TestWhatAnImportFindsChangedIsSaidOfTheSite(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{`ALTER TABLE knox_authtoken RENAME TO away`, `REVOKE SELECT (digest) ON knox_authtoken FROM ROLE`} {
		s := newSite(t, "knox-5")
		s.Mint(s.User("alice"))
		store, err := knox.Open(t.Context(), knox.Config{URL: s.URL()})
		check(err)
		s.Exec(forRole(sql, s.Role))
		_, err = store.Count(t.Context(), nil)
		for _, all := range store.All(t.Context(), nil) {
			err = errors.Join(err, all)
		}
		if !errors.Is(err, token.ErrDrift) || strings.Contains(err.Error(), "ackup") || strings.Contains(err.Error(), "owner") {
			t.Errorf("%s: %v", sql, err)
		}
		check(store.Close())
	}
}

// TestWhoMayNotConnectAnyMoreIsToldSo, and not that the tables are others.
func TestWhoMayNotConnectAnyMoreIsToldSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	secret := s.Mint(s.User("alice"))
	store := s.open(t)
	_, err := s.find(t, store, secret)
	check(err)
	s.Exec(`REVOKE CONNECT ON DATABASE ` + s.Database() + ` FROM PUBLIC`)
	check(server.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '`+s.Role+`'`))
	err = lookUpErr(t, s, store, secret)
	wantWords(t, "no right to connect", err, "GRANT CONNECT ON DATABASE")
	if errors.Is(err, token.ErrDrift) {
		t.Errorf("it is taken for tables that became others: %v", err)
	}
}

// TestASiteIsNamedByAllThatDecidesWhichTablesAreRead: the role may have a search_path of its own.
func TestASiteIsNamedByAllThatDecidesWhichTablesAreRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	role := s.Role + "_other"
	s.Exec(`CREATE ROLE ` + role + ` LOGIN`)
	t.Cleanup(func() { s.Exec(`DROP ROLE ` + role) })
	names := map[string]bool{s.open(t).Site(): true}
	names[s.open(t, func(c *knox.Config) { c.URL = strings.Replace(c.URL, s.Role, role, 1) }).Site()] = true
	names[s.open(t, func(c *knox.Config) { c.Tables.Tokens = "public.knox_authtoken" }).Site()] = true
	if len(names) != 3 {
		t.Errorf("they are called %v", names)
	}
}
