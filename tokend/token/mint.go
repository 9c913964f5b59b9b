package token

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// A token is the prefix, 32 random characters and 6 of checksum:
//
//	irt_ 5oDq…  (32 of base62, 190.5 random bits)  0aB3xZ (CRC-32, base62)
//
// 42 characters of [0-9A-Za-z_], so that it passes every iRODS client, is found
// by secret scanners as irt_[0-9A-Za-z]{38}, and a double click selects it all.
const (
	Prefix     = "irt_"
	Length     = len(Prefix) + randomLength + checksumLength
	HintLength = 8

	randomLength   = 32
	checksumLength = 6
	base62         = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed says that what was presented cannot be a token, so no look-up is
// made. The wrapping error says why, without quoting it.
var ErrMalformed = errors.New("not a token")

// Mint makes a new secret from the system's random numbers.
func Mint() Secret {
	body := Prefix + randomText(base62, randomLength)
	text := body + checksum(body)
	return Secret{&text}
}

// Parse accepts a secret that is spelled like a token and whose checksum
// agrees; any other is ErrMalformed. A typo of one character never passes.
func Parse(text string) (Secret, error) {
	switch {
	case text == "":
		return Secret{}, fmt.Errorf("%w: it is empty", ErrMalformed)
	case isHex(text) && len(text) == 64:
		return Secret{}, fmt.Errorf("%w: it looks like a token of SODAR or Knox", ErrMalformed)
	case isCut(text, ""):
		return Secret{}, errCut(text)
	case !strings.HasPrefix(text, Prefix):
		return Secret{}, fmt.Errorf("%w: it does not begin with %s", ErrMalformed, Prefix)
	case len(text) != Length:
		return Secret{}, fmt.Errorf("%w: it has %d characters instead of %d", ErrMalformed, len(text), Length)
	case strings.Trim(text[len(Prefix):], base62) != "":
		return Secret{}, fmt.Errorf("%w: it has a character other than 0-9, A-Z and a-z", ErrMalformed)
	}
	body := text[:Length-checksumLength]
	if checksum(body) != text[len(body):] {
		return Secret{}, fmt.Errorf("%w: its checksum does not agree, so it was mistyped or cut", ErrMalformed)
	}
	return Secret{&text}, nil
}

// NewID returns the public ID of a new token: 12 characters of [0-9a-z], random
// of its own, telling nothing of the secret.
func NewID() string { return randomText(base62[:10]+base62[36:], 12) }

// checksum is the CRC-32 (IEEE) of body in 6 digits of base62.
func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	digits := make([]byte, checksumLength)
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
	return string(digits)
}

// randomText draws n characters of the alphabet, each equally likely: a random
// byte past the last whole multiple of the alphabet's size is drawn again.
func randomText(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet)
	text := make([]byte, 0, n)
	for pool := make([]byte, 2*n); len(text) < n; {
		_, _ = rand.Read(pool) // never returns an error: it ends the program instead
		for _, b := range pool {
			if int(b) < limit && len(text) < n {
				text = append(text, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(text)
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// isCut reports whether it is what an old client leaves of a token of Knox behind the site's prefix.
func isCut(text, prefix string) bool {
	return (len(text) == 49 || len(text) == 50) && isHex(strings.TrimPrefix(text, prefix))
}

func errCut(text string) error {
	return fmt.Errorf("%w: it looks like a token of SODAR that an old client cut to %d characters", ErrMalformed, len(text))
}
