package token

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxUser is how many characters the name of an iRODS user may have.
const maxUser = 63

// MaxLabel is how many characters a label may have.
const MaxLabel = 256

var (
	userName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,63}$`)

	// secretLike is a token, or enough of one to be worth hiding, and what is glued to it,
	// which may be another.
	secretLike = regexp.MustCompile(`(?i)` + Prefix + `[0-9A-Za-z]{12}\w*`)

	// knoxLike is a token of Knox, or what old clients leave of one without a site's prefix, and what is glued to it. That
	// prefix is no secret.
	knoxLike = regexp.MustCompile(`(?i)[0-9a-f]{49}\w*`)

	// tokenForName is what no user is called. Somebody may well be called
	// kirt_vandenberghe.
	tokenForName = regexp.MustCompile(`(?i)(^|[^0-9A-Za-z])` + Prefix + `[0-9A-Za-z]{12,}|` + Prefix + `[0-9A-Za-z]{30,}`)
)

// Redact takes out of a text what looks like a token: people paste theirs into
// the field for the name, and names are logged.
func Redact(text string) string {
	return knoxLike.ReplaceAllLiteralString(secretLike.ReplaceAllLiteralString(text, Prefix+redacted), redacted)
}

// RedactName takes out of a name that a stranger gave what may have been a
// token, however it was mangled, and all that follows. That is what stands behind
// the prefix at a word's begin, if it has 30 letters and digits or begins with 16
// of them or blanks; and what follows the first 8 of 32 in a row, unless they are
// all hexadecimal, because some sites number their users so, and fewer than the 49 that old
// clients leave of a token of Knox. The helper does the same.
func RedactName(name string) string {
	const inAll, atOnce, row, ofKnox = 30, 16, 32, 49
	run, hex := 0, true
	for i := range len(name) {
		rest := name[i:]
		if run == 0 && len(rest) > len(Prefix) && strings.EqualFold(rest[:len(Prefix)], Prefix) {
			if rest = rest[len(Prefix):]; words(rest) >= inAll || begins(rest) >= atOnce {
				return name[:i+len(Prefix)] + redacted
			}
		}
		c := name[i]
		if !isWord(c) {
			run, hex = 0, true
			continue
		}
		run++
		hex = hex && (c <= '9' || c >= 'a' && c <= 'f')
		if run >= row && !hex || run >= ofKnox {
			return name[:i+1-run+HintLength] + redacted
		}
	}
	return name
}

// words returns how many letters and digits the text has.
func words(s string) (n int) {
	for i := range len(s) {
		if isWord(s[i]) {
			n++
		}
	}
	return n
}

// begins returns how many letters, digits and blanks the text begins with.
func begins(s string) (n int) {
	for n < len(s) && (isWord(s[n]) || s[n] == ' ' || s[n] >= '\t' && s[n] <= '\r') {
		n++
	}
	return n
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// CheckUser says what is wrong with a name that no iRODS user can have. The
// name is iRODS's bare user name, without #zone.
func CheckUser(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case len(name) > 4*maxUser: // what follows takes its time
		return fmt.Errorf("the user name has %d bytes; those of iRODS have 1 to %d characters", len(name), maxUser)
	case tokenForName.MatchString(name) || holdsToken(name):
		return errors.New("the user name looks like a token: does it belong elsewhere?")
	case userName.MatchString(name) && name != "." && name != "..":
		return nil
	}
	return fmt.Errorf("%.80q is no iRODS user name: those have 1 to 63 characters of A-Z a-z 0-9 _ . @ -, without #zone", RedactName(name))
}

// CheckLabel says what is wrong with a label.
func CheckLabel(label string) error {
	switch {
	case !utf8.ValidString(label):
		return errors.New("the label is not valid UTF-8")
	case utf8.RuneCountInString(label) > MaxLabel:
		return fmt.Errorf("the label has %d characters; at most %d are kept", utf8.RuneCountInString(label), MaxLabel)
	case secretLike.MatchString(label) || knoxLike.MatchString(label) || holdsToken(label):
		return errors.New("the label holds what looks like a token; say what it is for instead")
	case strings.ContainsFunc(label, unicode.IsControl):
		return errors.New("the label has a control character (a line break or a tab, say); leave it out")
	}
	return nil
}

// holdsToken reports whether a whole token is in the text, with or without its prefix
// and whatever stands between its letters and digits.
func holdsToken(text string) bool {
	text = strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && isWord(byte(r)) {
			return r
		}
		return -1
	}, text)
	const body = Length - len(Prefix)
	for i := range max(len(text)-body+1, 0) {
		if _, err := Parse(Prefix + text[i:i+body]); err == nil {
			return true
		}
	}
	return false
}
