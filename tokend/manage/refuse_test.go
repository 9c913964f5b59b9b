package manage_test

import (
	"fmt"
	"strings"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// TestABadRequestIsRefusedWithItsRemedy: alice may have an hour, a day at most.
func TestABadRequestIsRefusedWithItsRemedy(t *testing.T) {
	const (
		alphabet = "1 to 63 characters of A-Z a-z 0-9 _ . @ -, without #zone"
		syntax   = "write hours (24), a duration (90m, 36h, 30d, 2w), or never"
		century  = "lies past the year 9999; for no end write never"
		most     = "at most 1d"
	)
	secret := token.Mint().Reveal()
	limited := manage.Limits{DefaultExpiry: hour, MaxExpiry: day}
	f := newFixture(t, limited)
	for _, row := range []struct {
		user, label, expiry string
		limits              manage.Limits
		remedy              string
	}{
		{"", "", "", limited, "the user name is empty"},
		{"rodsadmin#zone", "", "", limited, alphabet},
		{strings.Repeat("a", 64), "", "", limited, alphabet},
		{"alice\n", "", "", limited, alphabet},
		{"al\x00ice", "", "", limited, alphabet},
		{"al ice", "", "", limited, alphabet},
		{"..", "", "", limited, alphabet},
		{secret, "", "", limited, "looks like a token: does it belong elsewhere?"},
		{secret[:20], "", "", limited, "looks like a token: does it belong elsewhere?"},

		{"alice", strings.Repeat("ä", 257), "", limited, "at most 256 are kept"},
		{"alice", "two\nlines", "", limited, "leave it out"},
		{"alice", "\xff", "", limited, "not valid UTF-8"},
		{"alice", "for " + secret, "", limited, "say what it is for instead"},

		{"alice", "", "1.5", limited, syntax},
		{"alice", "", "abc", limited, syntax},
		{"alice", "", "-1", limited, syntax},
		{"alice", "", " ", limited, syntax},
		{"alice", "", secret, limited, syntax},
		{"alice", "", "25", limited, most},
		{"alice", "", "86401s", limited, most},
		{"alice", "", "10000w", limited, most},
		{"alice", "", "never", limited, most},
		{"alice", "", "0", limited, most},
		{"alice", "", "999999999", limited, century},
		{"alice", "", "3000000d", manage.Limits{}, century},
		{"alice", "", "99999999999999999999d", manage.Limits{}, century},

		{"alice", "", "", manage.Limits{DefaultExpiry: 3_000_000 * day}, century},
	} {
		f.Apply(row.limits)
		made, _, err := f.Create(t.Context(), actor, manage.Request{User: row.user, Label: row.label, Expiry: row.expiry})
		what := fmt.Sprintf("%.40q %.40q %q", row.user, row.label, row.expiry)
		refuses(t, what, err, manage.ErrInvalid, "invalid request: ", row.remedy)
		if made.Reveal() != "" || len(f.events(t)) > 0 {
			t.Errorf("%s: a token was made", what)
		}
	}
}

func TestWhatIsJustAllowedIsMade(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, request := range []manage.Request{
		{User: strings.Repeat("a", 63)},
		{User: "Alice_B.C-9@example.org"},
		{User: "alice", Label: strings.Repeat("ä", 256)},
		{User: "alice", Expiry: "2900000d"},
	} {
		if _, _, err := f.Create(t.Context(), actor, request); err != nil {
			t.Errorf("%.90v: got %v", request, err)
		}
	}
}

// TestNoErrorQuotesAToken, whole or in part, wherever one may be given.
func TestNoErrorQuotesAToken(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice", "1h")
	secret := token.Mint()
	for _, pasted := range []string{
		secret.Reveal(),
		secret.Reveal()[:41],
		" " + secret.Reveal() + "\n",
		"alice:" + secret.Reveal(),
		strings.Repeat("x", 62) + secret.Reveal(), // quoted to the 80th character, it would show 18
		strings.Repeat("x", 70) + secret.Reveal(), // …10, two of them secret
	} {
		_, _, user := f.Create(t.Context(), actor, manage.Request{User: pasted})
		_, _, label := f.Create(t.Context(), actor, manage.Request{User: "alice", Label: pasted})
		_, _, expiry := f.Create(t.Context(), actor, manage.Request{User: "alice", Expiry: pasted})
		_, id := f.Revoke(t.Context(), actor, pasted)
		_, found := f.RevokeFound(t.Context(), actor, pasted)
		_, all := f.RevokeAll(t.Context(), actor, pasted)
		_, after := f.List(t.Context(), token.Page{After: pasted})
		for field, err := range map[string]error{
			"user": user, "label": label, "expiry": expiry, "ID": id, "found": found, "all": all, "after": after,
			"disable": f.Disable(t.Context(), actor, pasted), "enable": f.Enable(t.Context(), actor, pasted),
		} {
			if err == nil {
				t.Errorf("%s: %q was taken", field, pasted)
				continue
			}
			hides(t, "the error about the "+field, err.Error(), secret)
			if strings.Contains(err.Error(), secret.Reveal()[:8]) {
				t.Errorf("%s: the error shows the token's beginning: %v", field, err)
			}
		}
	}
}
