package token_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

// good is the first of the frozen vectors.
const good = "irt_00000000000000000000000000000000493wUC"

func TestWhatIsNoTokenIsRefusedWithAReason(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 5)
	const (
		empty     = "it is empty"
		sodar     = "it looks like a token of SODAR or Knox"
		begins    = "it does not begin with irt_"
		character = "it has a character other than 0-9, A-Z and a-z"
		checksum  = "its checksum does not agree, so it was mistyped or cut"
	)
	cut := func(n string) string {
		return "it looks like a token of SODAR that an old client cut to " + n + " characters"
	}
	size := func(n string) string { return "it has " + n + " characters instead of 42" }
	for _, row := range []struct{ name, text, reason string }{
		{"empty", "", empty},
		{"64 hex digits", hex[:64], sodar},
		{"64 digits", strings.Repeat("1", 64), sodar},
		{"cut to 50", hex[:50], cut("50")},
		{"cut to 49", hex[:49], cut("49")},
		{"48 hex digits", hex[:48], begins},
		{"51 hex digits", hex[:51], begins},
		{"63 hex digits", hex[:63], begins},
		{"65 hex digits", hex[:65], begins},
		{"64 hex digits, upper case", strings.ToUpper(hex[:64]), begins},
		{"64 with a newline", hex[:63] + "\n", begins},
		{"42 hex digits", hex[:42], begins},
		{"no prefix", good[4:], begins},
		{"half a prefix", "irt", begins},
		{"prefix in upper case", "IRT_" + good[4:], begins},
		{"prefix with a capital", "Irt_" + good[4:], begins},
		{"prefix with a hyphen", "irt-" + good[4:], begins},
		{"space before", " " + good, begins},
		{"NUL before", "\x00" + good, begins},
		{"byte order mark before", "\ufeff" + good, begins},
		{"one space", " ", begins},
		{"one NUL", "\x00", begins},
		{"prefix only", "irt_", size("4")},
		{"one short", good[:41], size("41")},
		{"one long", good + "0", size("43")},
		{"newline behind", good + "\n", size("43")},
		{"NUL behind", good + "\x00", size("43")},
		{"twice", good + good, size("84")},
		{"a megabyte", "irt_" + strings.Repeat("a", 1<<20-4), size("1048576")},
		{"newline for the last", good[:41] + "\n", character},
		{"NUL for the last", good[:41] + "\x00", character},
		{"underscore inside", good[:20] + "_" + good[21:], character},
		{"accent inside", good[:20] + "é" + good[22:], character},
		{"full-width digit inside", good[:20] + "０" + good[23:], character},
		{"invalid UTF-8 inside", good[:20] + "\xff" + good[21:], character},
		{"checksum of zeros", good[:36] + "000000", checksum},
		{"checksum beyond 32 bits", good[:36] + "zzzzzz", checksum},
		{"another case", good[:41] + "c", checksum},
	} {
		secret, err := token.Parse(row.text)
		if !errors.Is(err, token.ErrMalformed) || err.Error() != "not a token: "+row.reason {
			t.Errorf("%s: got %v, want %s", row.name, err, row.reason)
		}
		if secret != (token.Secret{}) {
			t.Errorf("%s: got a secret with the error", row.name)
		}
	}
}

// The characters are such that no five in a row stand in a message.
func TestAReasonNeverQuotesWhatWasPresented(t *testing.T) {
	tail := rapid.StringOfN(rapid.RuneFrom([]rune("BCFGHJKLMNPQTUVWXY#%$é😀\x00\n\"\\")), 0, 80, -1)
	before := rapid.SampledFrom([]string{"", "irt_", "IRT_", " irt_", good[:4], good, good[:36]})
	rapid.Check(t, func(t *rapid.T) {
		input := before.Draw(t, "before") + tail.Draw(t, "tail")
		_, err := token.Parse(input)
		mustNotQuote(t, err, input)
	})
	hex := rapid.StringOfN(rapid.RuneFrom([]rune("0123456789abcdef")), 48, 65, -1)
	rapid.Check(t, func(t *rapid.T) {
		input := hex.Draw(t, "hex")
		_, err := token.Parse(input)
		mustNotQuote(t, err, input)
	})
}

func mustNotQuote(t *rapid.T, err error, input string) {
	if err == nil {
		return
	}
	if !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\x00\n") {
		t.Errorf("the message cannot be printed: %q", err)
	}
	for i := len("irt_"); i+5 <= len(input); i++ {
		if strings.Contains(err.Error(), input[i:i+5]) {
			t.Errorf("%q quotes %q", err, input)
		}
	}
}

// FuzzParse: nothing makes Parse panic; what it accepts is spelled as a token,
// comes back unchanged and is accepted again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{good, "", "irt_", good[:41], good + "\n", strings.Repeat("a", 64), strings.Repeat("0", 49), token.Mint().Reveal()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		secret, err := token.Parse(input)
		if err != nil {
			if !errors.Is(err, token.ErrMalformed) || secret != (token.Secret{}) {
				t.Errorf("%q: got %v", input, err)
			}
			return
		}
		again, err := token.Parse(secret.Reveal())
		if secret.Reveal() != input || !tokenShape.MatchString(input) || err != nil || again.Digest() != secret.Digest() {
			t.Errorf("%q: accepted as %q, %v", input, secret.Reveal(), err)
		}
	})
}
