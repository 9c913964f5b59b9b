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
)

// Redact takes out of a text what looks like a token: people paste theirs into
// the field for the name, and names are logged.
func Redact(text string) string { return secretLike.ReplaceAllLiteralString(text, Prefix+redacted) }

// inName is a token in a name, however it was mangled: whatever follows the
// prefix, and a row of characters too long for most names, of which the
// first 8 stay: those of a token are no secret.
var inName = regexp.MustCompile(`(?is)(irt_).{12,}|([0-9A-Za-z]{8})[0-9A-Za-z]{28,}`)

// RedactName takes out of a name that a stranger gave what may have been a token.
func RedactName(name string) string { return inName.ReplaceAllString(name, "${1}${2}"+redacted) }

// CheckUser says what is wrong with a name that no iRODS user can have. The
// name is iRODS's bare user name, without #zone.
func CheckUser(name string) error {
	switch {
	case name == "":
		return errors.New("the user name is empty")
	case secretLike.MatchString(name):
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
