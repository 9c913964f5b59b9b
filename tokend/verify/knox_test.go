package verify_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/knox"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

var postgres *servers.PostgreSQL

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if postgres, err = servers.StartPostgreSQL("max_connections=200", "fsync=off", "log_line_prefix=%u "); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { must(postgres.Stop()) }()
		return m.Run()
	}())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// asked is the real database of Knox, and how many statements it was asked by the logins, by what
// reads again, and for users.
type asked struct {
	*knox.Store
	logins, again, users atomic.Int64

	answered func(again int64) error   // nil: as the database says, at once
	slow     time.Duration             // by how much a login's answer is late
	clock    atomic.Pointer[time.Time] // nil: the database's
}

func (c *asked) Now() time.Time {
	if at := c.clock.Load(); at != nil {
		return *at
	}
	return c.Store.Now()
}

func (c *asked) MayLogIn(ctx context.Context, name string) (bool, error) {
	c.users.Add(1)
	return c.Store.MayLogIn(ctx, name)
}

func (c *asked) Lookup(ctx context.Context, d token.Digest) (token.Record, error) {
	c.logins.Add(1)
	time.Sleep(c.slow)
	return c.Store.Lookup(ctx, d)
}

func (c *asked) LookupAll(ctx context.Context, d ...token.Digest) (map[token.Digest]token.Record, error) {
	n := c.again.Add(1)
	records, err := c.Store.LookupAll(ctx, d...)
	if c.answered != nil && err == nil {
		err = c.answered(n)
	}
	return records, err
}

// knoxFixture is a Verifier over a store and the database of a site.
type knoxFixture struct {
	*fixture
	*knoxtest.Site
	knox   *asked
	tables knox.Tables   // that are set; for open
	slow   time.Duration // see asked; for open
}

func newKnox(t *testing.T, kind string, change ...func(*verify.Config)) *knoxFixture {
	t.Helper()
	f := &knoxFixture{Site: knoxtest.New(t, postgres, kind)}
	return f.open(t, f.URL(), change...)
}

func (f *knoxFixture) open(t *testing.T, url string, change ...func(*verify.Config)) *knoxFixture {
	t.Helper()
	store, err := knox.Open(t.Context(), knox.Config{URL: url, Connections: 4, Tables: f.tables})
	must(err)
	t.Cleanup(func() { must(store.Close()) })
	f.knox = &asked{Store: store, slow: f.slow}
	cfg := verify.Config{Knox: f.knox, Settings: verify.Settings{TTL: ttl, Stale: stale, Refresh: 15 * time.Second}}
	for _, c := range change {
		c(&cfg)
	}
	f.fixture = newFixture(t, cfg)
	return f
}

func refresh(d time.Duration) func(*verify.Config) {
	return func(c *verify.Config) { c.Settings.Refresh = d }
}

// run looks after the tables and what is in use, while the test runs.
func (f *knoxFixture) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	running.Go(func() { f.knox.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func (f *knoxFixture) says(t *testing.T, secret token.Knox) verify.Reason {
	t.Helper()
	return f.Check(t.Context(), "alice", secret.Reveal()).Reason
}

// within reports whether it comes to that in the time.
func within(limit time.Duration, is func() bool) bool {
	for begun := time.Now(); time.Since(begun) < limit; time.Sleep(5 * time.Millisecond) {
		if is() {
			return true
		}
	}
	return is()
}

// TestVerdictsAreThoseOfKnox: the list of probes; the columns are Knox 4.2 and Knox 5.
func TestVerdictsAreThoseOfKnox(t *testing.T) {
	t.Parallel()
	const yes, unknown, malformed = verify.OK, verify.Unknown, verify.Malformed
	for kind, five := range map[string]int{"sodar-1.2": 0, "sodar-1.3": 1, "knox-5": 1} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newKnox(t, kind)
			text := "abcdef98" + strings.Repeat("76543210fedcba", 4)
			kept, err := token.ParseKnox(text, "")
			must(err)
			alice := f.User("alice")
			f.Keep(kept, alice, nil)
			for round := range 2 { // cold, and from the cache
				for what, c := range map[string]struct {
					text string
					want [2]verify.Reason
				}{
					"as it is":               {text, [2]verify.Reason{yes, yes}},
					"capitals after the key": {text[:8] + strings.ToUpper(text[8:]), [2]verify.Reason{yes, unknown}},
					"capitals":               {strings.ToUpper(text), [2]verify.Reason{unknown, unknown}},
					"a space before":         {" " + text, [2]verify.Reason{malformed, malformed}},
					"a newline after":        {text + "\n", [2]verify.Reason{malformed, malformed}},
					"one short":              {text[:63], [2]verify.Reason{malformed, malformed}},
					"one long":               {text + "0", [2]verify.Reason{malformed, malformed}},
					"cut by an old client":   {text[:49], [2]verify.Reason{malformed, malformed}},
					"not hexadecimal":        {text[:63] + "g", [2]verify.Reason{malformed, malformed}},
					"empty":                  {"", [2]verify.Reason{malformed, malformed}},
					"its digest":             {f.Digest(kept).String(), [2]verify.Reason{malformed, malformed}},
					"10 MB":                  {strings.Repeat("a", 10<<20), [2]verify.Reason{malformed, malformed}},
					"NUL first":              {"\x00" + text[1:], [2]verify.Reason{malformed, malformed}},
					"invalid UTF-8":          {"\xff" + text[1:], [2]verify.Reason{malformed, malformed}},
					"another":                {strings.Repeat("0", 64), [2]verify.Reason{unknown, unknown}},
				} {
					if got := f.Check(t.Context(), "alice", c.text).Reason; got != c.want[five] {
						t.Errorf("%s, round %d: %s, want %s", what, round+1, got, c.want[five])
					}
				}
			}
			if got := f.Check(t.Context(), "bob", text).Reason; got != verify.WrongUser {
				t.Errorf("bob's: %s", got)
			}
		})
	}
}

// TestWhatIsTakenAwayInKnoxIsRefusedInTime: nobody tells of it.
func TestWhatIsTakenAwayInKnoxIsRefusedInTime(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		sql  string
		want verify.Reason
	}{
		"deleted":          {`DELETE FROM tokens_sodarauthtoken`, verify.Unknown},
		"expired":          {`UPDATE tokens_sodarauthtoken SET expiry = now() - interval '1 second'`, verify.Expired},
		"user deactivated": {`UPDATE users_user SET is_active = false`, verify.UserDisabled},
		"user renamed":     {`UPDATE users_user SET username = 'alicia'`, verify.WrongUser},
		"user deleted":     {`DELETE FROM tokens_sodarauthtoken; DELETE FROM users_user`, verify.Unknown},
	} {
		for how, runs := range map[string]bool{"read again": true, "too old": false} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				const limit = 2 * time.Second
				f := newKnox(t, "sodar-1.3", refresh(limit))
				if runs {
					f.run(t)
				}
				secret := f.Mint(f.User("alice"))
				if got := f.says(t, secret); got != verify.OK {
					t.Fatal(got)
				}
				time.Sleep(limit / 2)
				f.Exec(c.sql)
				changed := time.Now()
				for time.Since(changed) < limit {
					_ = f.says(t, secret)
					time.Sleep(10 * time.Millisecond)
				}
				for range 5 {
					if got := f.says(t, secret); got != c.want {
						t.Fatalf("%s after it: %s, want %s", time.Since(changed), got, c.want)
					}
				}
			})
		}
	}
}

// TestKnoxMayBeAwayForTTLAndStale, and no longer.
func TestKnoxMayBeAwayForTTLAndStale(t *testing.T) {
	t.Parallel()
	own, err := servers.StartPostgreSQL("fsync=off")
	must(err)
	t.Cleanup(func() { must(own.Stop()) })
	f := &knoxFixture{Site: knoxtest.New(t, own, "sodar-1.3")}
	f.open(t, f.URL(), func(c *verify.Config) {
		c.Settings = verify.Settings{TTL: 2 * time.Second, Stale: 3 * time.Second, Refresh: time.Second}
	})
	f.run(t)
	secret, other := f.Mint(f.User("alice")), knoxtest.NewToken()
	if got := f.says(t, secret); got != verify.OK {
		t.Fatal(got)
	}
	must(own.Kill())
	away := time.Now()
	for time.Since(away) < 3*time.Second { // and it may have been read up to a second before
		if got := f.says(t, secret); got != verify.OK {
			t.Fatalf("%s after it went away: %s", time.Since(away), got)
		}
		if got := f.says(t, other); got != verify.Unavailable {
			t.Fatalf("one that nobody knows: %s", got)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !within(5*time.Second, func() bool { return f.says(t, secret) == verify.Unavailable }) {
		t.Error("it is believed on and on")
	}
	must(own.Serve("fsync=off"))
	if !within(10*time.Second, func() bool { return f.says(t, secret) == verify.OK }) {
		t.Error("it does not come back")
	}
}

// TestADaemonThatStartsWhileTheSiteIsAwayBelievesTheCache: another one has filled that.
func TestADaemonThatStartsWhileTheSiteIsAwayBelievesTheCache(t *testing.T) {
	t.Parallel()
	for _, kind := range knoxtest.Kinds() {
		records := newMemory(t)
		with := func(c *verify.Config) { c.Cache = records }
		f := newKnox(t, kind, with)
		known, other := f.Mint(f.User("alice")), f.Mint(f.User("bob"))
		if got := f.says(t, known); got != verify.OK {
			t.Fatal(got)
		}
		away := (&knoxFixture{Site: f.Site}).open(t, "postgres://"+f.Role+"@127.0.0.1:1/"+f.Database(), with)
		for secret, want := range map[token.Knox]verify.Reason{known: verify.OK, other: verify.Unavailable, knoxtest.NewToken(): verify.Unavailable} {
			if got := away.says(t, secret); got != want {
				t.Errorf("%s: %s, want %s", kind, got, want)
			}
		}
	}
}

// TestNoSiteSpeaksForTokensThatWereImported, nor does [tokens] max_expiry for a site's: where the site is left out, what the
// cache has of it opens nothing.
func TestNoSiteSpeaksForTokensThatWereImported(t *testing.T) {
	t.Parallel()
	records := newMemory(t)
	with := func(c *verify.Config) { c.Cache, c.Settings.MaxExpiry = records, 1 }
	f := newKnox(t, "sodar-1.3", with)
	secret := f.Mint(f.User("alice"))
	for range 2 { // cold, and from the cache
		if got := f.says(t, secret); got != verify.OK {
			t.Errorf("at the site: %s", got)
		}
	}
	left := newFixture(t, verify.Config{Cache: records})
	if got := left.Check(t.Context(), "alice", secret.Reveal()).Reason; got != verify.Unknown {
		t.Errorf("the site is left out, and it was not imported: %s", got)
	}
}

// TestDriftIsNeverAWrongToken, nor is a cached record believed, however young.
func TestDriftIsNeverAWrongToken(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.2", refresh(time.Hour))
	f.run(t)
	secret := f.Mint(f.User("alice"))
	if got := f.says(t, secret); got != verify.OK {
		t.Fatal(got)
	}
	f.Exec(`ALTER TABLE knox_authtoken RENAME TO away`)
	_ = f.says(t, knoxtest.NewToken()) // by which the drift is found
	if !within(3*time.Second, func() bool { return f.says(t, secret) == verify.Unavailable }) {
		t.Fatal("it is believed, though there is no table")
	}
	for range 20 {
		for _, s := range []token.Knox{secret, knoxtest.NewToken()} {
			if got := f.Check(t.Context(), "alice", s.Reveal()); got.Reason != verify.Unavailable || !strings.Contains(got.Detail.Error(), "there is no table") && !strings.Contains(got.Detail.Error(), "does not exist") {
				t.Fatalf("%s: %v", got.Reason, got.Detail)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := f.reason(t, f.mint(t, token.Record{})); got != verify.OK {
		t.Errorf("a token of our own: %s", got)
	}
	f.Exec(`ALTER TABLE away RENAME TO knox_authtoken`)
	if !within(5*time.Second, func() bool { return f.says(t, secret) == verify.OK }) {
		t.Error("mended, and it is not good again")
	}
}

// TestASiteIsUpgradedUnderTheDaemon from SODAR 1.2 to 1.3: the old table goes, the new one has no right for
// the role, then it has.
func TestASiteIsUpgradedUnderTheDaemon(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.2", refresh(time.Second))
	f.run(t)
	alice := f.User("alice")
	old := f.Mint(alice)
	if got := f.says(t, old); got != verify.OK {
		t.Fatal(got)
	}
	users, _, _ := strings.Cut(knoxtest.DDL("sodar-1.3"), "CREATE TABLE tokens_")
	f.Exec(`BEGIN; DROP TABLE knox_authtoken; ` + strings.TrimPrefix(knoxtest.DDL("sodar-1.3"), users) + `; COMMIT`)
	f.Tokens, f.Scheme = "tokens_sodarauthtoken", token.Knox5
	fresh := f.Mint(alice)
	if !within(3*time.Second, func() bool { return f.says(t, old) == verify.Unavailable }) {
		t.Fatal("the old table's are believed")
	}
	if !within(3*time.Second, func() bool {
		got := f.Check(t.Context(), "alice", fresh.Reveal())
		return got.Reason == verify.Unavailable && strings.Contains(got.Detail.Error(), "GRANT SELECT (digest, token_key, user_id, expiry) ON public.tokens_sodarauthtoken TO")
	}) {
		t.Errorf("it doesn't say which right is missing: %v", f.Check(t.Context(), "alice", fresh.Reveal()).Detail)
	}
	f.Grant()
	if !within(5*time.Second, func() bool { return f.says(t, fresh) == verify.OK }) {
		t.Fatalf("with the right, it says %s", f.says(t, fresh))
	}
	if got := f.says(t, old); got != verify.Unknown {
		t.Errorf("an old token, of which there is no row any more: %s", got)
	}
}

// TestExpiryOfKnoxIsToTheMicrosecond, as Knox has it: at it, a token is good.
func TestExpiryOfKnoxIsToTheMicrosecond(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "knox-5")
	secret, end := knoxtest.NewToken(), token.Time(f.knox.Now().Add(time.Hour))
	f.Keep(secret, f.User("alice"), end)
	for round := range 2 { // cold, and from the cache
		for after, want := range map[time.Duration]verify.Reason{
			-time.Microsecond: verify.OK, 0: verify.OK, 999 * time.Nanosecond: verify.OK, time.Microsecond: verify.Expired,
		} {
			now := end.Add(after)
			f.knox.clock.Store(&now)
			if got := f.says(t, secret); got != want {
				t.Errorf("%s after it, round %d: %s", after, round+1, got)
			}
		}
	}
}

// TestExpiryOfKnoxIsByTheServersClock, from the cache, too.
func TestExpiryOfKnoxIsByTheServersClock(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "knox-5")
	soon := knoxtest.NewToken()
	f.Keep(soon, f.User("alice"), f.knox.Now().Add(1500*time.Millisecond))
	if got := f.says(t, soon); got != verify.OK {
		t.Errorf("before its time: %s", got)
	}
	if !within(3*time.Second, func() bool { return f.says(t, soon) == verify.Expired }) {
		t.Error("it does not end, from the cache")
	}
}
