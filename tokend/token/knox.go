package token

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
)

// Scheme is how a token is spelled, and its digest made of it.
type Scheme string

// Every Scheme there is.
const (
	// Own is ours: irt_ and so on, and the SHA-512 of its characters.
	Own Scheme = ""
	// Knox4 is that of Knox 4.2, as SODAR has it until 1.2: 64 hexadecimal digits, and the SHA-512 of
	// the bytes that they spell.
	Knox4 Scheme = "knox-4.2"
	// Knox5 is that of Knox 5: 64 hexadecimal digits behind a prefix that the site may have, and the
	// SHA-512 of its characters.
	Knox5 Scheme = "knox-5"
)

// KnoxID is what the ID begins with of a token that is read in Knox's own tables. They give it none; the Hint follows.
const KnoxID = "knox-"

// ParseScheme reads what a store keeps of one.
func ParseScheme(text string) (Scheme, error) {
	if s := Scheme(text); s == Own || s == Knox4 || s == Knox5 {
		return s, nil
	}
	return "", fmt.Errorf("a scheme %.40q is not known", text)
}

const (
	// KnoxLength is how many hexadecimal digits a token of Knox has behind the site's prefix.
	KnoxLength = 64
	// MaxKnoxPrefix is how many characters that has at most.
	MaxKnoxPrefix = 10
	// knox4Key is how many of the digits Knox 4.2 finds a token by, as they are written.
	knox4Key = 8
)

// Knox is the plaintext of a token that django-rest-knox may have made. Like a Secret it prints as
// "[redacted]"; only Reveal gives the text.
type Knox struct {
	Secret
	prefix int // how long it is
}

// ParseKnox accepts what is spelled like a token of Knox, behind the site's prefix or without one, as those are
// that were made before it had any; any other is ErrMalformed. Whether the digits may be capitals is the scheme's
// matter.
func ParseKnox(text, prefix string) (Knox, error) {
	digits, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) == KnoxLength {
		digits, prefix = text, ""
	}
	switch {
	case isCut(text, prefix):
		return Knox{}, errCut(text)
	case prefix == "" && len(text) > KnoxLength && len(text) <= MaxKnoxPrefix+KnoxLength && isHex(text[len(text)-KnoxLength:]) && !isHex(text):
		return Knox{}, fmt.Errorf("%w: before its %d digits stand %d characters that are not [knox] prefix; are they the site's TOKEN_PREFIX?", ErrMalformed, KnoxLength, len(text)-KnoxLength)
	case len(digits) != KnoxLength:
		return Knox{}, fmt.Errorf("%w: it does not begin with %s, and has %d characters instead of the %d of Knox", ErrMalformed, Prefix, len(text), len(prefix)+KnoxLength)
	case strings.Trim(digits, "0123456789abcdefABCDEF") != "":
		return Knox{}, fmt.Errorf("%w: it has a character that is no hexadecimal digit, as all of Knox are", ErrMalformed)
	}
	return Knox{Secret{&text}, len(prefix)}, nil
}

// Hint returns the first 8 digits, by which a person recognises the token.
func (k Knox) Hint() string { return k.Reveal()[k.prefix : k.prefix+HintLength] }

// Digest returns what Knox keeps in the token's place by the scheme; false if it never keeps one that
// is written like this.
func (k Knox) Digest(scheme Scheme) (Digest, bool) {
	text := k.Reveal()
	if scheme != Knox4 {
		return sha512.Sum512([]byte(text)), isHex(text[k.prefix:])
	}
	bytes, err := hex.DecodeString(text[k.prefix:])
	return sha512.Sum512(bytes), err == nil && k.prefix == 0 && isHex(text[:knox4Key])
}
