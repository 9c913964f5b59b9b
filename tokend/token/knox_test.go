package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tokend/tokend/token"
)

// TestKnoxKeepsTheseDigests: rows of real django-rest-knox.
func TestKnoxKeepsTheseDigests(t *testing.T) {
	schemes := map[string]token.Scheme{"knox4.2": token.Knox4, "knox5": token.Knox5}
	for _, row := range rows(t, "testdata/knox.tsv") {
		scheme, ok := schemes[row[0]]
		if !ok {
			t.Fatalf("the scheme is %q", row[0])
		}
		text := row[1]
		prefix := text[:len(text)-token.KnoxLength]
		secret, err := token.ParseKnox(text, prefix)
		if err != nil {
			t.Fatal(err)
		}
		digest, may := secret.Digest(scheme)
		if !may || digest.String() != row[3] || !strings.HasPrefix(row[2][len(prefix):]+"xxx", secret.Hint()[:5]) {
			t.Errorf("%s: got %v, %t, hint %s", text, digest, may, secret.Hint())
		}
		if other, _ := secret.Digest(map[token.Scheme]token.Scheme{token.Knox4: token.Knox5, token.Knox5: token.Knox4}[scheme]); other == digest {
			t.Errorf("%s: both schemes give the same", text)
		}
	}
}

// TestATokenThatAnOldClientHasCutIsToldAsThat beside Knox, too.
func TestATokenThatAnOldClientHasCutIsToldAsThat(t *testing.T) {
	for _, length := range []int{49, 50} {
		for _, prefix := range []string{"", "irods_", "my-token_1"} {
			_, err := token.ParseKnox((prefix + strings.Repeat("0a", 32))[:length], prefix)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("an old client cut to %d characters", length)) {
				t.Errorf("behind %q: got %v", prefix, err)
			}
		}
	}
}

// TestWhatKnoxAcceptsOfATokensSpelling, as real Knox does; the columns are Knox 4.2 and Knox 5.
func TestWhatKnoxAcceptsOfATokensSpelling(t *testing.T) {
	good := "abcdef9876543210" + strings.Repeat("89abcdef", 6)
	kept, err := token.ParseKnox(good, "")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		text       string
		four, five bool
	}{
		"as it is":               {good, true, true},
		"capitals after the key": {good[:8] + strings.ToUpper(good[8:]), true, false},
		"one capital, the last":  {good[:63] + "F", true, false},
		"capitals":               {strings.ToUpper(good), false, false},
		"a capital in the key":   {strings.Repeat("A", 8) + good[8:], false, false},
		"a space before":         {" " + good, false, false},
		"a newline after":        {good + "\n", false, false},
		"one short":              {good[:63], false, false},
		"one long":               {good + "0", false, false},
		"not hexadecimal":        {good[:63] + "g", false, false},
		"a digit that is none":   {good[:61] + "٣0", false, false},
		"a letter that lowers":   {good[:61] + "\u212a", false, false}, // the Kelvin sign
		"empty":                  {"", false, false},
		"its digest":             {digestOf(kept, token.Knox5), false, false},
		"NUL first":              {"\x00" + good[1:], false, false},
		"invalid UTF-8":          {good[:63] + "\xff", false, false},
		"10 MB":                  {strings.Repeat("a", 10<<20), false, false},
		"a prefix":               {"irods_" + good, false, false},
	} {
		secret, err := token.ParseKnox(c.text, "")
		if err != nil && (!errors.Is(err, token.ErrMalformed) || secret != (token.Knox{}) || len(err.Error()) > 200) {
			t.Errorf("%s: %.300v", what, err)
		}
		for scheme, want := range map[token.Scheme]bool{token.Knox4: c.four, token.Knox5: c.five} {
			got := false
			if err == nil {
				digest, may := secret.Digest(scheme)
				got = may && digest.String() == digestOf(kept, scheme)
			}
			if got != want {
				t.Errorf("%s by %q: accepted %t, want %t", what, scheme, got, want)
			}
		}
	}
}

func digestOf(k token.Knox, scheme token.Scheme) string {
	digest, _ := k.Digest(scheme)
	return digest.String()
}

// TestAPrefixIsTheSitesOwn, and tokens from before it had one are good still; Knox 4.2 has none.
func TestAPrefixIsTheSitesOwn(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	secret, err := token.ParseKnox("irods_"+digits, "irods_")
	if err != nil || secret.Hint() != "01234567" {
		t.Fatalf("%s, %v", secret.Hint(), err)
	}
	for _, prefix := range []string{"irods_", "0123456789"} {
		secret, err := token.ParseKnox(prefix+digits, prefix)
		if _, may := secret.Digest(token.Knox4); err != nil || may {
			t.Errorf("Knox 4.2 has %s, or %v", prefix, err)
		}
	}
	for _, prefix := range []string{"irods_", "0123456789"} {
		before, err := token.ParseKnox(digits, prefix)
		if err != nil || before.Hint() != "01234567" {
			t.Errorf("without the prefix: %v", err)
		} else if _, may := before.Digest(token.Knox4); !may {
			t.Error("Knox 4.2 has not made it")
		}
	}
	for _, prefix := range []string{"", "other_"} {
		if _, err := token.ParseKnox("irods_"+digits, prefix); !errors.Is(err, token.ErrMalformed) || !strings.Contains(err.Error(), "before its 64 digits stand 6 characters that are not [knox] prefix") {
			t.Errorf("by %q: %v", prefix, err)
		}
	}
	for _, text := range []string{digits + "0", "irods_" + digits + "0"} {
		if _, err := token.ParseKnox(text, "irods_"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has %d characters", len(text))) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{digits + "irods_", "IRODS_" + digits, "irods-" + digits, "irods_" + digits[6:]} {
		if _, err := token.ParseKnox(text, "irods_"); !errors.Is(err, token.ErrMalformed) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestATokenOfKnoxIsNeverPrinted(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 4)
	secret, err := token.ParseKnox(text, "")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(secret), fmt.Sprintf("%#v %x %+v", secret, secret, struct{ k token.Knox }{secret}), string(asJSON)} {
		if strings.Contains(printed, text[:16]) || strings.Contains(printed, fmt.Sprintf("%x", text[:16])) {
			t.Errorf("it prints %s", printed)
		}
	}
}

// TestKnox4HasCapitalsBehindItsKeyAlone: the first eight digits are looked up as they are written.
func TestKnox4HasCapitalsBehindItsKeyAlone(t *testing.T) {
	small := strings.Repeat("abcdef", 11)[:token.KnoxLength]
	for i := range small {
		secret, err := token.ParseKnox(small[:i]+strings.ToUpper(small[i:i+1])+small[i+1:], "")
		if err != nil {
			t.Fatal(err)
		}
		if _, may := secret.Digest(token.Knox4); may != (i >= 8) {
			t.Errorf("a capital at %d: %t", i, may)
		}
		if _, may := secret.Digest(token.Knox5); may {
			t.Errorf("Knox 5, a capital at %d", i)
		}
	}
}
