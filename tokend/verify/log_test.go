package verify_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// line is a verdict as it stands in the log.
type line struct {
	Level, Msg, User, Outcome, Reason, Token, Detail string
}

// logged returns the lines that f writes at info and above.
func (f *fixture) logged(t *testing.T, do func()) []line {
	t.Helper()
	before := len(f.log.String())
	do()
	var lines []line
	for text := range strings.Lines(f.log.String()[before:]) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if l.Level != "DEBUG" {
			lines = append(lines, l)
		}
	}
	return lines
}

func TestEveryVerdictIsOneLine(t *testing.T) {
	f := newFixture(t, verify.Config{Settings: verify.Settings{TTL: ttl, Stale: stale, MaxExpiry: 3600}})
	const id = "*" // any ID of a token
	good, gone, other, locked := f.mint(t, token.Record{}), f.mint(t, token.Record{}), f.mint(t, token.Record{Owner: "bob"}), f.mint(t, token.Record{Owner: "carol"})
	old := f.mint(t, token.Record{Expires: time.Now().Add(-time.Second)})
	over := f.mint(t, token.Record{Created: time.Now().Add(-2 * time.Hour)})
	f.revoke(t, gone)
	f.disable(t, "carol")
	for _, c := range []struct {
		user, secret string
		store        lookup
		want         line
	}{
		{"alice", good.Reveal(), nil, line{Outcome: "yes", Reason: "ok", Token: id}},
		{"alice", old.Reveal(), nil, line{Outcome: "no", Reason: "expired", Token: id}},
		{"alice", over.Reveal(), nil, line{Outcome: "no", Reason: "expired", Token: id, Detail: `[tokens] max_expiry = "1h" ended it before its time`}},
		{"alice", gone.Reveal(), nil, line{Outcome: "no", Reason: "revoked", Token: id}},
		{"alice", other.Reveal(), nil, line{Outcome: "no", Reason: "wrong-user", Token: id, Detail: "the token is bob's"}},
		{"bob#zone", other.Reveal(), nil, line{Outcome: "no", Reason: "wrong-user", Token: id, Detail: `the token is bob's, and "bob#zone" is no iRODS user name: those have 1 to 63 characters of A-Z a-z 0-9 _ . @ -, without #zone`}},
		{"carol", locked.Reveal(), nil, line{Outcome: "no", Reason: "user-disabled", Token: id}},
		{"alice", token.Mint().Reveal(), nil, line{Outcome: "no", Reason: "unknown"}},
		{"alice", token.Mint().Reveal(), away, line{Outcome: "no", Reason: "unavailable", Detail: errAway.Error()}},
		{"alice", "password", nil, line{Outcome: "no", Reason: "malformed", Detail: "not a token: it does not begin with irt_"}},
		{"", "", nil, line{Outcome: "no", Reason: "malformed", Detail: "not a token: it is empty"}},
	} {
		c.want.Level, c.want.Msg, c.want.User = "INFO", "verdict", c.user
		f.source.replace(c.store)
		got := f.logged(t, func() { f.Check(t.Context(), c.user, c.secret) })
		if len(got) == 1 && got[0].Token != "" {
			got[0].Token = id
		}
		if diff := cmp.Diff([]line{c.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.want.Reason, diff)
		}
	}
}

func TestTheLineNamesTheTokenByItsID(t *testing.T) {
	f := newFixture(t, verify.Config{})
	secret := f.mint(t, token.Record{})
	verdict := f.Check(t.Context(), "alice", secret.Reveal())
	record, err := f.source.Store.Lookup(t.Context(), secret.Digest())
	if err != nil {
		t.Fatal(err)
	}
	lines := f.logged(t, func() { f.reason(t, secret) })
	if verdict.Token != record.ID || len(lines) != 1 || lines[0].Token != record.ID {
		t.Errorf("want %s, got %s and %v", record.ID, verdict.Token, lines)
	}
}

func TestWhatNamesAreLoggedAs(t *testing.T) {
	f := newFixture(t, verify.Config{})
	secret := f.mint(t, token.Record{}).Reveal()
	for name, want := range map[string]string{
		"alice":                   "alice",
		strings.Repeat("x.", 32):  strings.Repeat("x.", 32),
		strings.Repeat("x.", 33):  strings.Repeat("x.", 32) + "... (66 bytes)",
		strings.Repeat("x.", 1e6): strings.Repeat("x.", 32) + "... (2000000 bytes)",
		strings.Repeat("x", 1e6):  "xxxxxxxx[redacted]",
		"a\nb":                    "a\nb",
		secret:                    "irt_[redacted]",
		secret[:20]:               "irt_[redacted]",
		"alice:" + secret + "!":   "alice:irt_[redacted]",
		"irt_short":               "irt_short",
	} {
		lines := f.logged(t, func() { f.Check(t.Context(), name, "x") })
		if len(lines) != 1 || lines[0].User != want {
			t.Errorf("%.70q: got %.100v, want %.100q", name, lines, want)
		}
	}
	if strings.Contains(f.log.String(), secret[12:]) {
		t.Error("the secret is in the log")
	}
}

// TestNoSecretIsLogged covers debug level, and what goes wrong.
func TestNoSecretIsLogged(t *testing.T) {
	records := &broken{Memory: newMemory(t)}
	f := newFixture(t, verify.Config{Cache: records})
	secret := f.mint(t, token.Record{})
	ask := func() {
		for _, text := range []string{secret.Reveal(), secret.Reveal() + "\n", secret.Reveal()[:41], " " + secret.Reveal()} {
			f.Check(t.Context(), "alice", text)
			f.Check(t.Context(), text, text)
		}
	}
	ask()
	records.lie = []byte("\x03" + secret.Reveal())
	ask()
	records.failing = true
	ask()
	f.source.replace(away)
	ask()
	text := f.log.String()
	if !strings.Contains(text, errBroken.Error()) || !strings.Contains(text, errAway.Error()) {
		t.Error("what went wrong is not in the log")
	}
	for _, part := range []string{secret.Reveal()[16:], secret.Reveal()[:16], secret.Digest().String()} {
		if at := strings.Index(text, part); at >= 0 {
			t.Errorf("in the log: %s", text[max(0, at-200):at+len(part)])
		}
	}
}
