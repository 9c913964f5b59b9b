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
	if said := whyNot("malformed", "alice", "swordfish"); !strings.Contains(said, "it does not begin with irt_") {
		t.Errorf("it says %q", said)
	}
}
