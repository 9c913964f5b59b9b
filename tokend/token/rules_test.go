package token_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

func TestUserNames(t *testing.T) {
	const ok, no = true, false
	for _, row := range []struct {
		name string
		want bool
	}{
		{"a", ok},
		{"alice", ok},
		{"Alice_B.C-9", ok},
		{"a@b.org", ok},
		{"a@B.ORG", ok},
		{"-x", ok},
		{"--help", ok},
		{"_", ok},
		{"@", ok},
		{".a", ok},
		{"...", ok},
		{"0", ok},
		{strings.Repeat("a", 63), ok},

		{"", no},
		{token.Mint().Reveal()[len(token.Prefix):], no},
		{".", no},
		{"..", no},
		{strings.Repeat("a", 64), no},
		{strings.Repeat("a", 1<<20), no},
		{"a#zone", no},
		{"a b", no},
		{" a", no},
		{"a ", no},
		{"a\n", no},
		{"\na", no},
		{"a\x00", no},
		{"a\x7f", no},
		{"a\x1b[2J", no},
		{"a/b", no},
		{"a:b", no},
		{"a+b", no},
		{"a%", no},
		{"a\\b", no},
		{"a'b", no},
		{"é", no},
		{"а", no}, // Cyrillic
		{"a\u200b", no},
		{"a\xff", no},
	} {
		err := token.CheckUser(row.name)
		if (err == nil) != row.want {
			t.Errorf("%q: got %v", row.name, err)
		}
	}
}

func TestLabels(t *testing.T) {
	const ok, long, control, encoding, secret = "", "at most 256 are kept", "control character", "not valid UTF-8", "looks like a token"
	for _, row := range []struct{ name, label, want string }{
		{"empty", "", ok},
		{"words", "laptop, at home", ok},
		{"markup", "<script>'\"&\\%s", ok},
		{"accents", "Größe", ok},
		{"256 letters", strings.Repeat("x", 256), ok},
		{"256 emoji", strings.Repeat("😀", 256), ok},
		{"U+FFFD itself", "\ufffd", ok},

		{"257 letters", strings.Repeat("a", 257), long},
		{"257 emoji", strings.Repeat("😀", 257), long},
		{"a megabyte", strings.Repeat("a", 1<<20), long},
		{"a line break", "a\nb", control},
		{"a carriage return", "a\r", control},
		{"a tab", "a\tb", control},
		{"NUL", "a\x00", control},
		{"an escape", "\x1b[31m", control},
		{"DEL", "a\x7f", control},
		{"a C1 control", "a\u0085", control},
		{"a lone byte", "a\xff", encoding},
		{"half an emoji", "😀"[:3], encoding},
		{"a surrogate", "\xed\xa0\x80", encoding},
		{"an overlong slash", "\xc0\xaf", encoding},
		{"text from right to left", "a\u202eb", ok},
		{"Hebrew and Arabic", "מחשב نايد", ok},
		{"a family of one emoji", "👩\u200d👧", ok},
		{"a token without its prefix", token.Mint().Reveal()[4:], secret},
		{"a token with a blank behind the prefix", "irt_ " + token.Mint().Reveal()[4:], secret},
		{"a token with blanks inside", strings.Join(strings.Split(token.Mint().Reveal(), ""), " "), secret},
		{"a token in the middle of text", "my laptop" + token.Mint().Reveal()[4:] + "of 2026", secret},
		{"a token with other letters between its own", strings.Join(strings.Split(token.Mint().Reveal(), ""), "Ł"), secret}, // U+0141 ends like A
		{"42 that are no token", "irt " + strings.Repeat("x", 38), ok},
		{"a token of Knox", "mine: " + strings.Repeat("0a", 32), secret},
		{"one with a site's prefix", "irods_" + strings.Repeat("0a", 32), secret},
		{"one with a prefix of letters", "mine: sodartoken" + strings.Repeat("0a", 32), secret},
		{"the same, cut by an old client", strings.Repeat("0a", 25), secret},
		{"a commit of Git", strings.Repeat("0a", 20), ok},
		{"two of them, glued", strings.Repeat("0a", 64), secret},
		{"one with a letter glued to it", strings.Repeat("0a", 32) + "x", secret},
	} {
		err := token.CheckLabel(row.label)
		switch {
		case row.want == ok && err != nil, row.want != ok && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
}

func TestWhatIsWrongIsSaidInOneShortPrintableLine(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.StringN(200, 400, -1), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		for _, err := range []error{token.CheckUser(text), token.CheckLabel(text)} {
			if err != nil && (len(err.Error()) > 1200 || strings.ContainsAny(err.Error(), "\x00\n\r\x1b\x7f")) {
				t.Errorf("%q: got %q", text, err)
			}
		}
	})
}

// TestNoTokenPassesForANameOrALabel: people paste theirs into the wrong field,
// and names and labels are kept, shown and logged.
func TestNoTokenPassesForANameOrALabel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := token.Mint().Reveal()
		part := secret[:rapid.IntRange(20, len(secret)).Draw(t, "length")]
		text := rapid.StringMatching(`([a-z.@ ]{0,9}[.@ ])?`).Draw(t, "before") + part + rapid.StringMatching(`[-.@ ]{0,5}`).Draw(t, "behind")
		for _, said := range []error{token.CheckUser(text), token.CheckLabel(text)} {
			if said == nil || strings.Contains(said.Error(), part[4:16]) || !strings.Contains(said.Error(), "looks like a token") {
				t.Errorf("%q: got %v", text, said)
			}
		}
		if shown := token.RedactName(text); strings.Contains(shown, part[4:16]) || !strings.Contains(shown, "irt_[redacted]") {
			t.Errorf("%q is shown as %q", text, shown)
		}
		if shown := token.Redact(text); strings.Contains(shown, part[4:16]) || !strings.Contains(shown, "irt_[redacted]") {
			t.Errorf("%q is shown as %q", text, shown)
		}
	})
	for _, name := range []string{"irt_bob", "birt_", "irt", "alice", "svc.irt_department"} {
		if err := token.CheckUser(name); err != nil || token.Redact(name) != name {
			t.Errorf("%s: %v, shown as %s", name, err, token.Redact(name))
		}
	}
}

func TestAMangledTokenIsNoName(t *testing.T) {
	secret := token.Mint().Reveal()
	for given, want := range map[string]string{
		secret[1:]:          "rt_" + secret[4:12] + "[redacted]",
		secret[4:]:          secret[4:12] + "[redacted]",
		secret[4:36]:        secret[4:12] + "[redacted]",
		"Irt_" + secret[4:]: "Irt_[redacted]",
		"irt_" + secret[4:12] + " " + secret[12:]:      "irt_[redacted]",
		"bob " + secret + ".\n" + secret:               "bob irt_[redacted]",
		"irt_" + secret[4:19] + "\u00a0" + secret[19:]: "irt_[redacted]",
		"irt_" + secret[4:10] + "-\n" + secret[10:]:    "irt_[redacted]",
		"kirt_vandenberghe":                            "kirt_vandenberghe",
		"Birt_a.b@lab.example.org":                     "Birt_a.b@lab.example.org",
		"svc.irt_department.radiology":                 "svc.irt_department.radiology",
		"irt_bob":                                      "irt_bob",
		"0123456789abcdef0123456789abcdef":             "0123456789abcdef0123456789abcdef",
		"irods-service-account.of.a-place@example":     "irods-service-account.of.a-place@example",
	} {
		if got := token.RedactName(given); got != want {
			t.Errorf("%q is shown as %q, want %q", given, got, want)
		}
		if err := token.CheckUser(given + "#zone"); err == nil || strings.Contains(err.Error(), secret[15:30]) {
			t.Errorf("%q: got %v", given, err)
		}
	}
}

// TestHowMuchOfATokenNoUserIsCalled: 12 characters behind a prefix that begins a
// word, 30 behind any.
func TestHowMuchOfATokenNoUserIsCalled(t *testing.T) {
	const twelve, thirty = "aBcDeFgHiJkL", "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123"
	for name, no := range map[string]bool{
		"irt_" + twelve: true, "irt_" + twelve[1:]: false, "bob.irt_" + twelve: true,
		"IRT_" + twelve: true, "Irt_" + twelve[1:]: false,
		"birt_" + twelve: false, "birt_" + thirty: true, "birt_" + thirty[1:]: false,
	} {
		if err := token.CheckUser(name); (err != nil) != no {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestHowMuchOfATokenIsNoName: 30 letters and digits in all, or 16 at once with the
// blanks between them.
func TestHowMuchOfATokenIsNoName(t *testing.T) {
	const eight = "irt_AbCdEfGh"
	type row struct {
		name   string
		hidden bool
	}
	rows := []row{
		{eight + "-" + strings.Repeat("a.", 22), true},
		{eight + "-" + strings.Repeat("a.", 21), false},
		{eight + "ijklmnop", true},
		{eight + "ijklmno", false},
		{eight + "-ijklmnop", false},
		{eight + "\u00a0ijklmnop", false},
	}
	for _, blank := range []string{" ", "\t", "\n", "\v", "\f", "\r"} {
		rows = append(rows, row{eight + blank + "ijklmno", true}, row{eight + blank + "ijklmn", false})
	}
	for _, row := range rows {
		want := row.name
		if row.hidden {
			want = "irt_[redacted]"
		}
		if got := token.RedactName(row.name); got != want {
			t.Errorf("%q is shown as %q, want %q", row.name, got, want)
		}
	}
}

// TestNoTextShowsAToken, however its prefix is written: what is printed and logged
// of an error goes through Redact.
func TestNoTextShowsAToken(t *testing.T) {
	const twelve = "0123456789aZ"
	for given, want := range map[string]string{
		"irt_" + twelve: "irt_[redacted]",
		"IRT_" + twelve: "irt_[redacted]",
		"Irt_" + twelve: "irt_[redacted]",
		"iRT_" + twelve: "irt_[redacted]",
		"open irt_" + twelve + ": no; IRT_" + twelve + twelve + ", not": "open irt_[redacted]: no; irt_[redacted], not",
		"irt_" + twelve + "irt_" + twelve + ".":                         "irt_[redacted].",
		"shirt_" + twelve:                                               "shirt_[redacted]",
		"irt_" + twelve[1:]:                                             "irt_" + twelve[1:],
		"IRT_" + twelve[1:]:                                             "IRT_" + twelve[1:],
		"irt-" + twelve:                                                 "irt-" + twelve,
		"irt_0123456-89aZ":                                              "irt_0123456-89aZ",
	} {
		if got := token.Redact(given); got != want {
			t.Errorf("%q is shown as %q, want %q", given, got, want)
		}
		if err := token.CheckLabel(given); (err != nil) != (given != want) {
			t.Errorf("%q as a label: got %v", given, err)
		}
	}
}

// TestNobodyIsKeptOutForTheLookOfAName: these are people, not tokens.
func TestNobodyIsKeptOutForTheLookOfAName(t *testing.T) {
	for _, name := range []string{"kirt_vandenberghe", "shirt_department12", "0123456789abcdef0123456789abcdef", "irt_team"} {
		if err := token.CheckUser(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := token.RedactName(name); got != name {
			t.Errorf("%s is shown as %s", name, got)
		}
	}
}
