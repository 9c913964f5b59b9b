package main

import (
	"strings"
	"testing"

	"tokend/tokend/token"
)

// TestWhatIsWrongWithTheNameIsNotSaidOfTheSecret, which is good: somebody else's.
func TestWhatIsWrongWithTheNameIsNotSaidOfTheSecret(t *testing.T) {
	for _, secret := range []string{token.Mint().Reveal(), strings.Repeat("0a", 32), "irods_" + strings.Repeat("0a", 32)} {
		if said := whyNot("wrong-user", "alice", secret); said != "" {
			t.Errorf("it says %s", said)
		}
		if said := whyNot("wrong-user", "alice#zone", secret); !strings.Contains(said, "without #zone") {
			t.Errorf("it says %q", said)
		}
	}
	for secret, want := range map[string]string{
		"swordfish":                         "it does not begin with irt_",
		"irt_swordfish":                     "it has 13 characters",
		strings.Repeat("0a", 32)[:63]:       "has 63 characters instead of the 64 of Knox",
		"irods_" + strings.Repeat("0a", 32): "are they the site's TOKEN_PREFIX",
	} {
		if said := whyNot("malformed", "alice", secret); !strings.Contains(said, want) {
			t.Errorf("of %s it says %q", secret, said)
		}
	}
}
