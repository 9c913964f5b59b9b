package verify_test

import (
	"path/filepath"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// imported keeps a token by the scheme into tokend's own store.
func (f *knoxFixture) imported(t *testing.T, scheme token.Scheme) token.Knox {
	t.Helper()
	secret := knoxtest.NewToken()
	digest, _ := secret.Digest(scheme)
	_, err := f.source.Adopt(t.Context(), []token.Record{{ID: token.NewID(), Digest: digest, Scheme: scheme, Owner: "alice", Hint: secret.Hint(), Created: time.Now()}}, token.Event{At: time.Now()})
	must(err)
	return secret
}

// TestTokensFromBeforeKnox5OpenBesideIt: it cannot read those of Knox 4.2. Of all others it knows better than
// what was imported.
func TestTokensFromBeforeKnox5OpenBesideIt(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]verify.Reason{"sodar-1.2": verify.Unknown, "sodar-1.3": verify.OK} {
		f := newKnox(t, kind)
		before, fresh := f.imported(t, token.Knox4), f.Mint(f.User("alice"))
		for what, c := range map[string]struct {
			secret token.Knox
			want   verify.Reason
		}{
			"from before":           {before, want},
			"SODAR's":               {fresh, verify.OK},
			"imported, and deleted": {f.imported(t, token.Knox5), verify.Unknown},
			"nobody's":              {knoxtest.NewToken(), verify.Unknown},
		} {
			if got := f.says(t, c.secret); got != c.want {
				t.Errorf("%s, %s: %s, want %s", kind, what, got, c.want)
			}
		}
		f.source.replace(away)
		if got := f.says(t, knoxtest.NewToken()); kind == "sodar-1.3" && got != verify.Unavailable {
			t.Errorf("one that may be from before, while the store is away: %s", got)
		}
		f.source.replace(nil)
		digest, _ := before.Digest(token.Knox4)
		_, err := f.source.Revoke(t.Context(), token.Selection{Digest: digest}, time.Now(), token.Event{At: time.Now()})
		must(err)
		must(f.Forget(t.Context(), digest))
		if got := f.says(t, before); got == verify.OK {
			t.Errorf("%s: it is revoked, and opens iRODS", kind)
		}
	}
}

// TestWhoMayNotLogInToTheSiteHasNoTokensFromBefore: that is so within refresh, and while the site is away, for ttl
// and stale.
func TestWhoMayNotLogInToTheSiteHasNoTokensFromBefore(t *testing.T) {
	t.Parallel()
	site := knoxtest.New(t, postgres, "sodar-1.3")
	proxy, err := servers.StartProxy("unix", filepath.Join(postgres.Dir(), ".s.PGSQL."+postgres.Port()))
	must(err)
	t.Cleanup(func() { must(proxy.Close()) })
	f := (&knoxFixture{Site: site}).open(t, "postgres://"+site.Role+"@"+proxy.Addr()+"/"+site.Database()+"?sslmode=disable", func(c *verify.Config) {
		c.Settings = verify.Settings{Refresh: time.Second, TTL: time.Minute, Stale: time.Minute} // of which refresh alone holds for what is taken away
	})
	before := f.imported(t, token.Knox4)
	wants := func(when string, want verify.Reason) {
		t.Helper()
		var got verify.Reason
		if !within(10*time.Second, func() bool { got = f.says(t, before); return got == want }) {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	wants("no user of the site", verify.UserDisabled)
	f.User("alice")
	wants("a user", verify.OK)
	f.Exec(`UPDATE users_user SET is_active = false`)
	wants("deactivated", verify.UserDisabled)
	f.Exec(`UPDATE users_user SET is_active = true`)
	wants("active again", verify.OK)
	f.knox.users.Store(0)
	for range 2 {
		if got := f.says(t, before); got != verify.OK {
			t.Error(got)
		}
	}
	if asked := f.knox.users.Load(); asked > 1 {
		t.Errorf("the site was asked %d times for one user", asked)
	}
	proxy.Hang()
	time.Sleep(1200 * time.Millisecond) // until nothing is fresh
	for range 8 {
		if got := f.says(t, before); got != verify.OK {
			t.Errorf("while the site hangs: %s", got)
		}
	}
	proxy.Heal()
	wants("it answers", verify.OK)
	f.Apply(verify.Settings{Refresh: time.Second, TTL: 2 * time.Second, Stale: 2 * time.Second})
	proxy.Heal()
	wants("it answers", verify.OK)
	proxy.Cut()
	for begun := time.Now(); time.Since(begun) < 2*time.Second; {
		if got := f.says(t, before); got != verify.OK {
			t.Fatalf("away: %s", got)
		}
	}
	wants("away for long", verify.Unavailable)
	proxy.Heal()
	wants("back", verify.OK)
	f.disable(t, "alice")
	wants("disabled here, though not there", verify.UserDisabled)
}

// TestMaxExpiryHoldsForTokensFromBefore, which are tokend's own.
func TestMaxExpiryHoldsForTokensFromBefore(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) { c.Settings.MaxExpiry = 1 })
	f.User("alice")
	before := f.imported(t, token.Knox4)
	if !within(10*time.Second, func() bool { return f.says(t, before) == verify.Expired }) {
		t.Errorf("it is not expired, but %s", f.says(t, before))
	}
}

// TestTablesThatBecomeOthersAreNeverAWrongToken, though what is asked of them can be answered still.
func TestTablesThatBecomeOthersAreNeverAWrongToken(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*knoxFixture){
		"the column of Knox 5": func(f *knoxFixture) {
			f.Exec(`ALTER TABLE knox_authtoken ALTER token_key TYPE varchar(25)`)
		},
		"another table in its place": func(f *knoxFixture) {
			f.Exec(`BEGIN; ALTER TABLE knox_authtoken RENAME TO old; CREATE TABLE knox_authtoken (LIKE old INCLUDING DEFAULTS); ALTER TABLE knox_authtoken ALTER token_key TYPE varchar(25)`)
			f.Grant()
			f.Exec(`COMMIT`)
		},
		"SODAR's new table beside the old one": func(f *knoxFixture) {
			f.Exec(`CREATE TABLE tokens_sodarauthtoken (LIKE knox_authtoken INCLUDING DEFAULTS); ALTER TABLE tokens_sodarauthtoken ALTER token_key TYPE varchar(25),
				ADD sodar_label varchar(256) NOT NULL DEFAULT ''`)
			f.Tokens = "tokens_sodarauthtoken"
			f.Grant()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newKnox(t, "sodar-1.2")
			f.run(t)
			alice := f.User("alice")
			if got := f.says(t, f.Mint(alice)); got != verify.OK {
				t.Fatal(got)
			}
			change(f)
			f.Scheme = token.Knox5
			secret := f.Mint(alice)
			if !within(10*time.Second, func() bool {
				got := f.says(t, secret)
				if got == verify.Unknown {
					t.Fatal("it is taken for a wrong one")
				}
				return got == verify.OK
			}) {
				t.Error("it never opens iRODS")
			}
		})
	}
}

// TestAPrefixMayComeAndGo: tokens from before the site had one are good still.
func TestAPrefixMayComeAndGo(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "knox-5", func(c *verify.Config) { c.KnoxPrefix = "irods_" })
	alice := f.User("alice")
	with, err := token.ParseKnox("irods_"+knoxtest.NewToken().Reveal(), "irods_")
	must(err)
	f.Keep(with, alice, nil)
	without := f.Mint(alice)
	for what, c := range map[string]struct {
		secret string
		want   verify.Reason
	}{
		"with it": {with.Reveal(), verify.OK}, "without it": {without.Reveal(), verify.OK},
		"taken away": {with.Reveal()[len("irods_"):], verify.Unknown}, "put before": {"irods_" + without.Reveal(), verify.Unknown},
	} {
		if got := f.Check(t.Context(), "alice", c.secret).Reason; got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

// TestNoOwnerIsBelievedInDrift, however lately the site has said that they may log in.
func TestNoOwnerIsBelievedInDrift(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3", refresh(time.Second))
	f.User("alice")
	before := f.imported(t, token.Knox4)
	if got := f.says(t, before); got != verify.OK {
		t.Fatal(got)
	}
	f.Exec(`ALTER TABLE users_user RENAME is_active TO gone`)
	time.Sleep(1100 * time.Millisecond)
	for range 5 {
		if got := f.says(t, before); got != verify.Unavailable {
			t.Errorf("it is told %s", got)
		}
	}
}

// TestATokenWithTwoOwnersIsNoHang: it is an answer, though a slow one, and holds nobody else up.
func TestATokenWithTwoOwnersIsNoHang(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "knox-5")
	f.Exec(`CREATE VIEW twice AS SELECT id, username, is_active FROM auth_user UNION ALL SELECT id, 'zoe', is_active FROM auth_user WHERE username = 'alice'; GRANT SELECT ON twice TO ` + f.Role)
	f.tables.Users, f.slow = "twice", 150*time.Millisecond
	f.open(t, f.URL())
	twice, bobs := f.Mint(f.User("alice")), f.Mint(f.User("bob"))
	for range 5 {
		if got := f.says(t, twice); got != verify.Unavailable {
			t.Errorf("of two owners: %s", got)
		}
	}
	asking := make(chan verify.Reason)
	go func() { asking <- f.says(t, twice) }()
	time.Sleep(20 * time.Millisecond)
	if got := f.Check(t.Context(), "bob", bobs.Reveal()); got.Reason != verify.OK {
		t.Errorf("bob is told %s: %v", got.Reason, got.Detail)
	}
	<-asking
}
