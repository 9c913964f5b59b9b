package token_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

func rules(t interface{ Fatal(...any) }, texts ...string) (all []token.NameRule) {
	for _, text := range texts {
		r, err := token.ParseNameRule(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestNamesAreMappedByTheFirstRuleThatFitsAllOfThem(t *testing.T) {
	names := token.Names{Rules: rules(t,
		`(.+)@B\.ORG -> $1@b.org`,
		`admin -> root`,
		`root -> nobody`,
		`([a-z]+)_x -> ${1}_y`,
		`(?P<who>[a-z]+)@(?:c|d)\.org -> $who`,
		`.*@b.org -> never`,
	)}
	for presented, want := range map[string]string{
		"alice":                            "alice",
		"alice@B.ORG":                      "alice@b.org",
		"alice@BxORG":                      "alice@BxORG",
		"alice@b.org":                      "never", // and not the first rule's again
		"admin":                            "root",
		"root":                             "nobody",
		"administer":                       "administer",
		"xadmin":                           "xadmin",
		"alice_x":                          "alice_y",
		"bob@c.org":                        "bob",
		"bob@d.org":                        "bob",
		"bob@e.org":                        "bob@e.org",
		"":                                 "",
		"admin\n":                          "admin\n",
		"a b@B.ORG":                        "a b@B.ORG", // no iRODS user is called so
		strings.Repeat("a", 64) + "@B.ORG": strings.Repeat("a", 64) + "@B.ORG",
	} {
		if got := names.Owner(presented); got != want {
			t.Errorf("%q: got %q, want %q", presented, got, want)
		}
	}
}

func TestOnlyTheDomainsCaseIsChanged(t *testing.T) {
	for presented, want := range map[string][3]string{
		"Alice":     {"Alice", "Alice", "Alice"},
		"Alice@Org": {"Alice@Org", "Alice@ORG", "Alice@org"},
		"A@b@C.d":   {"A@b@C.d", "A@b@C.D", "A@b@c.d"},
		"Alice@":    {"Alice@", "Alice@", "Alice@"},
	} {
		for i, c := range []token.DomainCase{token.KeepCase, token.UpperCase, token.LowerCase} {
			if got := (token.Names{DomainCase: c}).Owner(presented); got != want[i] {
				t.Errorf("%s of %s: got %s, want %s", c, presented, got, want[i])
			}
		}
	}
	after := token.Names{Rules: rules(t, `(.+)@OLD -> $1@New`), DomainCase: token.LowerCase}
	if got := after.Owner("Alice@OLD"); got != "Alice@new" {
		t.Errorf("behind a rule: %s", got)
	}
}

// TestNamesAreExactByDefault.
func TestNamesAreExactByDefault(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9_.@-]{0,70}`).Draw(t, "name")
		if got := (token.Names{}).Owner(name); got != name {
			t.Fatalf("got %q", got)
		}
	})
}

func TestWhatIsNoRuleIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":               "it is no rule",
		"alice":          "it is no rule",
		"alice->bob":     "it is no rule",
		" -> bob":        "it is no rule",
		"alice -> ":      "it is no rule",
		"( -> bob":       "no regular expression",
		"a)|(b -> c":     "no regular expression",
		`\Qalice -> bob`: `write \E where that of \Q is`,
		"a{2000} -> b":   "no regular expression",
		"(.*) -> $2":     `there is no group "2"`,
		"(.*) -> $1x":    `there is no group "1x" before the arrow: put what is to be kept into ( ), and write ${1}`,
		"(.*) -> $1é":    `there is no group "1é"`,
		"(.*) -> $1٣":    `there is no group "1٣"`,
		"(.*) -> ${who}": `there is no group "who"`,
		"(.*) -> $1$":    "a $ behind the arrow",
		"(.*) -> $$1":    "a $ behind the arrow",
	} {
		if _, err := token.ParseNameRule(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestTheCheckSaysWhoComesInWithTheSameTokens, with names for which that is true.
func TestTheCheckSaysWhoComesInWithTheSameTokens(t *testing.T) {
	for _, c := range []struct {
		names token.Names
		want  []string
	}{
		{token.Names{}, nil},
		{token.Names{DomainCase: token.KeepCase}, nil},
		{token.Names{Rules: rules(t, `(.+)@B\.ORG -> $1@b.org`)}, []string{
			`rule 1, (.+)@B\.ORG -> $1@b.org, lets the iRODS users alice@B.ORG and alice@b.org in with the same tokens: those of alice@b.org`,
		}},
		{token.Names{Rules: rules(t, `(.+)@.+ -> x$1`, `x(.*) -> y$1`)}, []string{
			`rule 1, (.+)@.+ -> x$1, may let several iRODS users in with the same tokens`,
			`rule 2, x(.*) -> y$1, lets the iRODS users xalice and yalice in with the same tokens: those of yalice`,
		}},
		{token.Names{Rules: rules(t, `[a-c]+ -> root`)}, []string{
			`rule 1, [a-c]+ -> root, lets the iRODS users aaa and root in with the same tokens: those of root`,
		}},
		{token.Names{Rules: rules(t, `alice|bob -> carol`, `carol -> dave`)}, []string{
			`rule 1, alice|bob -> carol, lets the iRODS users alice and bob in with the same tokens: those of carol`,
			`rule 2, carol -> dave, lets the iRODS users carol and dave in with the same tokens: those of dave`,
		}},
		{token.Names{Rules: rules(t, `.* -> nobody`, `alice -> bob`)}, []string{
			`rule 1, .* -> nobody, lets the iRODS users alice and nobody in with the same tokens: those of nobody`,
			`rule 2, alice -> bob, may let several iRODS users in with the same tokens`, // it never does: the first holds
		}},
		{token.Names{Rules: rules(t, `alice -> bob`, `bob -> carol`)}, []string{
			`rule 1, alice -> bob, may let several iRODS users in with the same tokens`, // bob's are carol's
			`rule 2, bob -> carol, lets the iRODS users bob and carol in with the same tokens: those of carol`,
		}},
		{token.Names{Rules: rules(t, `alice -> alice`, `bob -> b#b`, `c#c -> bob`)}, []string{ // none does, and none is worth more words
			`rule 1, alice -> alice, may let several iRODS users in with the same tokens`,
			`rule 2, bob -> b#b, may let several iRODS users in with the same tokens`,
			`rule 3, c#c -> bob, may let several iRODS users in with the same tokens`,
		}},
		{token.Names{DomainCase: token.LowerCase}, []string{
			`domain_case = "lower" lets iRODS users whose names differ only in the case of what stands behind the @, such as alice@A.ORG and alice@a.org, in with the same tokens`,
		}},
		{token.Names{DomainCase: token.UpperCase}, []string{
			`domain_case = "upper" lets iRODS users whose names differ only in the case of what stands behind the @, such as alice@A.ORG and alice@a.org, in with the same tokens`,
		}},
	} {
		got := c.names.Merged()
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestTheFirstRuleThatFitsHolds, and only that.
func TestTheFirstRuleThatFitsHolds(t *testing.T) {
	var names token.Names
	for _, text := range []string{"a.* -> x", "ab -> y", "x -> z"} {
		r, err := token.ParseNameRule(text)
		if err != nil {
			t.Fatal(err)
		}
		names.Rules = append(names.Rules, r)
	}
	if got := names.Owner("ab"); got != "x" {
		t.Errorf("got %s", got)
	}
}
