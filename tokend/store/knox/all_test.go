package knox_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

// TestReadingAllEndsWhereTheSiteIsSilent, as where a firewall has forgotten the connection, though whoever takes
// the tokens may take their time.
func TestReadingAllEndsWhereTheSiteIsSilent(t *testing.T) {
	defer knox.SetRowTimeout(time.Second)()
	s := newSite(t, "sodar-1.3")
	alice := s.User("alice")
	const tokens = 60_000 // more than are on the way at once
	s.Exec(`INSERT INTO tokens_sodarauthtoken (digest, token_key, user_id, sodar_label)
		SELECT encode(sha512(n::text::bytea), 'hex'), lpad(to_hex(n), 15, '0'), $1, repeat('x', 250) FROM generate_series(1, $2::int) AS n`, alice, tokens)
	store, proxy := s.openByProxy(t)
	all := func(atFirst func()) (read int, err error) {
		for _, err = range store.All(t.Context(), nil) {
			if err != nil {
				return read, err
			}
			if read++; read == 1 {
				atFirst()
			}
		}
		return read, nil
	}
	if read, err := all(func() { time.Sleep(2 * time.Second) }); err != nil || read != tokens {
		t.Errorf("by one who takes their time, %d were read, %v", read, err)
	}
	begun := time.Now()
	for _, err := range store.All(t.Context(), nil) {
		check(err)
		proxy.Hang() // whoever wants no more doesn't wait for the rest
		break
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the end of reading took %s", took)
	}
	proxy.Heal()
	read, err := all(proxy.Lose)
	if err == nil || !strings.Contains(err.Error(), "has said nothing for a minute; does it hang") || read == 0 || read == tokens {
		t.Errorf("after %d tokens: %v", read, err)
	}
}

// TestAnOddTimeIsNoReasonToLeaveOutAToken: when it was made is as good as unknown.
func TestAnOddTimeIsNoReasonToLeaveOutAToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	alice := s.User("alice")
	s.Exec(`GRANT SELECT (created) ON tokens_sodarauthtoken TO ` + s.Role)
	store := s.open(t)
	for _, created := range []string{"10000-01-01 00:00:00+00", "infinity", "-infinity", "0044-03-15 00:00:00 BC"} {
		s.Mint(alice)
		s.Exec(`UPDATE tokens_sodarauthtoken SET created = $1::text::timestamptz`, created)
		n := 0
		for r, err := range store.All(t.Context(), nil) {
			check(err)
			if _, err := r.Created.MarshalJSON(); err != nil {
				t.Errorf("%s: %v", created, err)
			}
			n++
		}
		if n == 0 {
			t.Errorf("%s: none is read", created)
		}
	}
}

// TestWhatElseMayBeReadIsSaid, as the statement that lets the role read it, for what is there.
func TestWhatElseMayBeReadIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, granted   string
		labels, created bool
		grant           string // without ON
	}{
		{kind: "sodar-1.2", grant: "created"},
		{kind: "sodar-1.2", granted: "created", created: true},
		{kind: "sodar-1.3", grant: "created, sodar_label"},
		{kind: "sodar-1.3", granted: "created", created: true, grant: "sodar_label"},
		{kind: "sodar-1.3", granted: "created, sodar_label", created: true, labels: true},
	} {
		s := newSite(t, c.kind)
		if c.granted != "" {
			s.Exec(`GRANT SELECT (` + c.granted + `) ON ` + s.Tokens + ` TO ` + s.Role)
		}
		labels, created, grant := s.open(t).Readable()
		what, _, _ := strings.Cut(strings.TrimPrefix(grant, "GRANT SELECT ("), ")")
		if labels != c.labels || created != c.created || what != c.grant {
			t.Errorf("%s with %q: labels %t, created %t, %q", c.kind, c.granted, labels, created, grant)
		}
		if grant == "" {
			continue
		}
		s.Exec(grant)
		if labels, created, grant := s.open(t).Readable(); grant != "" || !created || labels != (s.Scheme == token.Knox5) {
			t.Errorf("%s after that: labels %t, created %t, %q", c.kind, labels, created, grant)
		}
	}
}

// TestWhatLooksUpNoTokenIsNotImported: a row without a digest, as of a view, or with one in capitals; and a time that is
// another year's elsewhere is no reason to read nothing.
func TestWhatLooksUpNoTokenIsNotImported(t *testing.T) {
	zone := time.Local
	time.Local = time.FixedZone("", -5*3600) // as TZ says
	t.Cleanup(func() { time.Local = zone })
	s := newSite(t, "knox-5")
	capital, late, good := s.Mint(s.User("carol")), s.Mint(s.User("larry")), s.Mint(s.User("gail"))
	s.User("anna") // who has none
	s.Exec(`UPDATE knox_authtoken SET digest = upper(digest) WHERE digest = $1`, s.Digest(capital).String())
	s.Exec(`UPDATE knox_authtoken SET expiry = '10000-01-01 02:00:00+00' WHERE digest = $1`, s.Digest(late).String())
	s.Exec(forRole(`CREATE VIEW tok AS SELECT t.digest, t.token_key, t.expiry, u.id AS user_id, t.created FROM auth_user AS u LEFT JOIN knox_authtoken AS t ON t.user_id = u.id; GRANT SELECT ON tok TO ROLE`, s.Role))
	store := s.open(t, func(c *knox.Config) { c.Tables.Tokens, c.Tables.Scheme = "tok", knox.Knox5 })
	if n, err := store.Count(t.Context(), nil); err != nil || n != 3 {
		t.Errorf("%d are counted, %v", n, err)
	}
	read := map[string]token.Digest{}
	for r, err := range store.All(t.Context(), nil) {
		check(err)
		if !r.Expires.IsZero() {
			t.Errorf("%s's ends at %s", r.Owner, r.Expires)
		}
		read[r.Owner] = r.Digest
	}
	if want := map[string]token.Digest{"carol": {}, "larry": s.Digest(late), "gail": s.Digest(good)}; !maps.Equal(read, want) {
		t.Errorf("it reads %v", read)
	}
}

// TestAnImportMayTakeLongerThanAStatement of the role: what is done with the tokens is in that time.
func TestAnImportMayTakeLongerThanAStatement(t *testing.T) {
	t.Parallel()
	const many = 50_000 // more than what is on the way at once
	s := newSite(t, "knox-5")
	s.Exec(`INSERT INTO knox_authtoken (digest, token_key, user_id, created) SELECT encode(sha512(n::text::bytea), 'hex'), '0123456789abcde', $1::int, now() FROM generate_series(1, $2::int) AS n`, s.User("alice"), many)
	s.Exec(`alter role ` + s.Role + ` SET statement_timeout = '500ms'`)
	n := 0
	for _, err := range s.open(t).All(t.Context(), nil) {
		check(err)
		if n++; n == 1 {
			time.Sleep(time.Second)
		}
	}
	if n != many {
		t.Errorf("%d are read", n)
	}
}
