package token

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is the plaintext of a token that is spelled correctly. It is made
// only by Mint and Parse, and prints as "[redacted]" in every format, log and
// encoding; only Reveal gives the text. The zero Secret is no token. Two of them
// are not to be compared with ==; their digests are.
//
// The text stands behind a pointer: where fmt calls no method (an unexported
// field, %p, %w) it prints what it finds, of a pointer the address.
type Secret struct{ text *string }

// Reveal returns the 42 characters themselves. They belong on the standard
// output or in the reply of the one who made the token, and nowhere else.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Hint returns the 8 characters behind the prefix, by which a person
// recognises the token ever after.
func (s Secret) Hint() string { return s.Reveal()[len(Prefix) : len(Prefix)+HintLength] }

// Digest returns what is stored in the token's place.
func (s Secret) Digest() Digest { return Digest(sha512.Sum512([]byte(s.Reveal()))) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format prints "[redacted]" for every verb that fmt asks it about, %#v and %x
// included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue is what slog records: "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is what JSON and TOML encode: "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Digest is the SHA-512 of a token's ASCII characters, the same as
// django-rest-knox 5 keeps. There is no salt: the secret is random, not chosen.
type Digest [sha512.Size]byte

// String returns the 128 lower-case hex digits that stores keep.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads what String wrote.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("digest has %d characters, not %d", len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest: %w", err)
	}
	return d, nil
}

// MarshalText writes the hex digits, for encodings of a Record.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Digest) UnmarshalText(text []byte) error {
	digest, err := ParseDigest(string(text))
	if err != nil {
		return fmt.Errorf("read a record: %w", err)
	}
	*d = digest
	return nil
}
