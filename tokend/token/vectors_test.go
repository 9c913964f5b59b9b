package token_test

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"tokend/tokend/token"
)

func TestFrozenVectors(t *testing.T) {
	for _, row := range rows(t, "testdata/vectors.tsv") {
		text, hint, digest := row[0], row[2], row[3]
		secret, err := token.Parse(text)
		switch row[1] {
		case "yes":
			if err != nil || secret.Reveal() != text || secret.Hint() != hint || secret.Digest().String() != digest {
				t.Errorf("%s: got hint %s, digest %v, %v", text, secret.Hint(), secret.Digest(), err)
			}
		case "no":
			if !errors.Is(err, token.ErrMalformed) || !strings.Contains(err.Error(), "checksum") || secret != (token.Secret{}) {
				t.Errorf("%s: got %v", text, err)
			}
		default:
			t.Errorf("%s: the checksum is %q", text, row[1])
		}
	}
}

// What Knox 5 keeps of its tokens and Digest of ours are held against the same function.
func TestTheDigestIsThatOfKnox5(t *testing.T) {
	for _, row := range rows(t, "testdata/knox.tsv") {
		if row[0] != "knox5" {
			continue
		}
		digest, err := token.ParseDigest(row[3])
		if err != nil || digest != sha512.Sum512([]byte(row[1])) {
			t.Errorf("%s: Knox kept %v, %v", row[1], digest, err)
		}
	}
	for range 100 {
		secret := token.Mint()
		if want := sha512.Sum512([]byte(secret.Reveal())); secret.Digest() != want {
			t.Errorf("%s: got %v, want %s", secret.Reveal(), secret.Digest(), hex.EncodeToString(want[:]))
		}
	}
}

// rows reads a file of columns between tabs; a line that begins with # is for
// people.
func rows(t *testing.T, path string) [][]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return all
}
