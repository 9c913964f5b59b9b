package token_test

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"tokend/tokend/token"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var (
	tokenShape = regexp.MustCompile(`^irt_[0-9A-Za-z]{38}$`)
	idShape    = regexp.MustCompile(`^[0-9a-z]{12}$`)
)

func TestAMintedTokenIsOne(t *testing.T) {
	for range 5000 {
		minted := token.Mint()
		text := minted.Reveal()
		parsed, err := token.Parse(text)
		if err != nil || parsed.Reveal() != text || parsed.Digest() != minted.Digest() {
			t.Fatalf("%s: parsed as %s, %v", text, parsed.Reveal(), err)
		}
		if len(text) != 42 || token.Length != 42 || !tokenShape.MatchString(text) {
			t.Fatalf("%s: not spelled as a token", text)
		}
		if minted.Hint() != text[4:12] {
			t.Fatalf("%s: the hint is %s", text, minted.Hint())
		}
	}
}

// Every one there is, not some: a typo never costs a look-up.
func TestEverySingleTypoIsRefused(t *testing.T) {
	for range 10 {
		text := token.Mint().Reveal()
		refuse := func(what string, at int, typo string) {
			if _, err := token.Parse(typo); err == nil && typo != text {
				t.Errorf("%s: %s at %d is accepted: %s", text, what, at, typo)
			}
		}
		for i := range text {
			refuse("a deletion", i, text[:i]+text[i+1:])
			if i > 0 {
				refuse("a transposition", i, text[:i-1]+text[i:i+1]+text[i-1:i]+text[i+1:])
			}
			for c := range 256 {
				refuse("a substitution", i, text[:i]+string([]byte{byte(c)})+text[i+1:])
				refuse("an insertion", i, text[:i]+string([]byte{byte(c)})+text[i:])
			}
		}
		for c := range 256 {
			refuse("an insertion", len(text), text+string([]byte{byte(c)}))
		}
	}
}

// The bound is at six and a half standard deviations: by chance it fails once
// in ten million runs. A byte taken modulo 62 misses it by far.
func TestEachRandomCharacterIsEquallyLikely(t *testing.T) {
	const tokens, random = 20_000, 32
	seen := map[string]bool{}
	var total [62]int
	var byPlace [random][62]int
	for range tokens {
		text := token.Mint().Reveal()
		seen[text] = true
		for i, c := range []byte(text[4 : 4+random]) {
			digit := strings.IndexByte(base62, c)
			total[digit]++
			byPlace[i][digit]++
		}
	}
	if len(seen) != tokens {
		t.Errorf("%d of %d tokens are different", len(seen), tokens)
	}
	mustBeEven(t, "all places", total[:], tokens*random)
	for i, counts := range byPlace {
		mustBeEven(t, fmt.Sprint("place ", i), counts[:], tokens)
	}
}

func TestAnIDIsShortAndItsCharactersAreEquallyLikely(t *testing.T) {
	const ids = 20_000
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	seen := map[string]bool{}
	counts := make([]int, len(alphabet))
	for range ids {
		id := token.NewID()
		if !idShape.MatchString(id) {
			t.Fatalf("%q is no ID", id)
		}
		seen[id] = true
		for _, c := range []byte(id) {
			counts[strings.IndexByte(alphabet, c)]++
		}
	}
	if len(seen) != ids {
		t.Errorf("%d of %d IDs are different", len(seen), ids)
	}
	mustBeEven(t, "an ID", counts, ids*12)
}

func mustBeEven(t *testing.T, what string, counts []int, draws int) {
	t.Helper()
	share := 1 / float64(len(counts))
	mean := float64(draws) * share
	most := 6.5 * math.Sqrt(mean*(1-share))
	for digit, n := range counts {
		if math.Abs(float64(n)-mean) > most {
			t.Errorf("%s: character %d of the alphabet came %d times, expected %.0f, give or take %.0f", what, digit, n, mean, most)
		}
	}
}
