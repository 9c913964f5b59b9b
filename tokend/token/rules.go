package token

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLabel is how many characters a label may have.
const MaxLabel = 256

var (
	userName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,63}$`)

	// secretLike is a token, or enough of one to be worth hiding.
	secretLike = regexp.MustCompile(`(?i)` + Prefix + `[0-9A-Za-z]{12,}`)

	// tokenForName is what no user is called. Somebody may well be called
	// kirt_vandenberghe.
	tokenForName = regexp.MustCompile(`(^|[^0-9A-Za-z])` + Prefix + `[0-9A-Za-z]{12,}|` + Prefix + `[0-9A-Za-z]{30,}`)

	// mangled is a token in a name, however it was typed: with blanks, without
	// its prefix or a part of that.
	mangled = regexp.MustCompile(`(?i)(^|[^0-9A-Za-z])irt_[0-9A-Za-z\s]{16,}|[0-9A-Za-z]{32,}`)
)

// Redact takes out of a text what looks like a token: people paste theirs into
// the field for the name, and names are logged.
func Redact(text string) string { return secretLike.ReplaceAllLiteralString(text, Prefix+redacted) }

// RedactName takes out of a name that a stranger gave what may have been a
// token. Of a long row of characters the first 8 stay: those of a token are no
// secret. Hexadecimal ones stay whole, because some sites number their users so.
func RedactName(name string) string {
	return mangled.ReplaceAllStringFunc(name, func(row string) string {
		if at := strings.Index(strings.ToLower(row), Prefix); at >= 0 {
			return row[:at+len(Prefix)] + redacted
		}
		if strings.Trim(row, "0123456789abcdef") == "" {
			return row
		}
		return row[:HintLength] + redacted
	})
}

// CheckUser says what is wrong with a name that no iRODS user can have. The
// name is iRODS's bare user name, without #zone.
func CheckUser(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case tokenForName.MatchString(name):
		return errors.New("the user name looks like a token: was it meant for another field?")
	case userName.MatchString(name) && name != "." && name != "..":
		return nil
	}
	return fmt.Errorf("%.80q is no iRODS user name: those have 1 to 63 characters of A-Z a-z 0-9 _ . @ -, without #zone", name)
}

// CheckLabel says what is wrong with a label.
func CheckLabel(label string) error {
	switch {
	case !utf8.ValidString(label):
		return errors.New("the label is not valid UTF-8")
	case utf8.RuneCountInString(label) > MaxLabel:
		return fmt.Errorf("the label has %d characters; at most %d are kept", utf8.RuneCountInString(label), MaxLabel)
	case secretLike.MatchString(label):
		return errors.New("the label holds what looks like a token; say what it is for instead")
	case strings.ContainsFunc(label, unicode.IsControl):
		return errors.New("the label has a control character (a line break or a tab, say); leave it out")
	}
	return nil
}
