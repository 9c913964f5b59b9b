package knox_test

import (
	"errors"
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
		"a closed schema": {knox.Tables{Tokens: "closed.tok"}, []string{"the role may not look for the table", `GRANT USAGE ON SCHEMA closed TO ` + s.Role}},
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
	wantWords(t, "no right to connect", s.open(t).Err(), "the user of [knox] url may not connect to this database", "have the database's owner say: GRANT CONNECT ON DATABASE "+s.Database()+" TO "+s.Role+":")
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
			[]string{`have the table's owner say: GRANT SELECT (expiry) ON public.tokens_sodarauthtoken TO `},
		},
		"a right of the users is missing": {
			`REVOKE SELECT (is_active, username) ON users_user FROM ROLE`, `GRANT SELECT (is_active, username) ON users_user TO ROLE`,
			[]string{`GRANT SELECT (username, is_active) ON public.users_user TO `},
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
		"an expiry has no time zone": {
			`ALTER TABLE tokens_sodarauthtoken ALTER expiry TYPE timestamp`, `ALTER TABLE tokens_sodarauthtoken ALTER expiry TYPE timestamptz`,
			[]string{"the column expiry of public.tokens_sodarauthtoken is timestamp without time zone, and not timestamp with time zone"},
		},
		"a digest is of bytes": {
			`ALTER TABLE tokens_sodarauthtoken RENAME digest TO d; ALTER TABLE tokens_sodarauthtoken ADD digest bytea; GRANT SELECT (digest) ON tokens_sodarauthtoken TO ROLE`,
			`ALTER TABLE tokens_sodarauthtoken DROP digest; ALTER TABLE tokens_sodarauthtoken RENAME d TO digest`,
			[]string{"the column digest of public.tokens_sodarauthtoken is bytea, and not text"},
		},
		"users have numbers for names": {
			`ALTER TABLE users_user ALTER username TYPE integer USING length(username)`,
			`ALTER TABLE users_user ALTER username TYPE varchar(150) USING 'alice'`,
			[]string{"the column username of public.users_user is integer, and not text"},
		},
		"its schema has another name": {
			`ALTER SCHEMA public RENAME TO private`, `ALTER SCHEMA private RENAME TO public`,
			[]string{"there is no table users_user or auth_user that this role can see"},
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
