package token

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// Names says whose tokens open iRODS for a name. The zero Names is exact: those of the owner who is called
// the same. Of one name it is always one owner.
type Names struct {
	Rules      []NameRule // in their order; the first that fits the whole name holds, and only that
	DomainCase DomainCase // after that
}

// DomainCase is what becomes of what stands behind the last @ of a name.
type DomainCase string

// Every DomainCase there is; the empty one is KeepCase.
const (
	KeepCase  DomainCase = "keep"
	UpperCase DomainCase = "upper"
	LowerCase DomainCase = "lower"
)

// NameRule gives a name that the pattern fits, from its begin to its end, another one.
type NameRule struct {
	text, replacement string
	pattern           *regexp.Regexp
}

// arrow stands between a rule's pattern and what it makes of a name; no name has a blank.
const arrow = " -> "

// ParseNameRule reads a rule: a regular expression, an arrow and what to write in its place, where $1 is what
// the first group has found:
//
//	(.+)@B\.ORG -> $1@b.org
func ParseNameRule(text string) (NameRule, error) {
	pattern, replacement, ok := strings.Cut(text, arrow)
	if !ok || pattern == "" || replacement == "" {
		return NameRule{}, errors.New(`it is no rule: write a regular expression for the whole name, an arrow and the owner's name, such as '(.+)@B\.ORG -> $1@b.org'`)
	}
	p, err := regexp.Compile(pattern) // alone, or a ) and a ( of it could be those around it
	if err == nil {
		if p, err = regexp.Compile(`^(?:` + pattern + `)$`); err != nil {
			return NameRule{}, errors.New(`what stands before the arrow has no end: write \E where that of \Q is`)
		}
	}
	if err != nil {
		if e, is := errors.AsType[*syntax.Error](err); is {
			err = fmt.Errorf("%s: %q", e.Code, e.Expr)
		}
		return NameRule{}, fmt.Errorf("what stands before the arrow is no regular expression: %w", err)
	}
	for _, group := range groupInText.FindAllStringSubmatch(replacement, -1) {
		if name := group[1] + group[2]; !hasGroup(p, name) {
			return NameRule{}, fmt.Errorf("there is no group %q before the arrow: put what is to be kept into ( ), and write ${1} where letters, digits or _ follow", name)
		}
	}
	if strings.Contains(groupInText.ReplaceAllLiteralString(replacement, ""), "$") {
		return NameRule{}, errors.New("a $ behind the arrow names a group, such as $1; no name has one")
	}
	return NameRule{text, replacement, p}, nil
}

var groupInText = regexp.MustCompile(`\$(?:([\pL\p{Nd}_]+)|\{([\pL\p{Nd}_]+)\})`) // what Expand takes for one

func hasGroup(p *regexp.Regexp, name string) bool {
	if p.SubexpIndex(name) > 0 {
		return true
	}
	for i := range p.NumSubexp() + 1 {
		if name == strconv.Itoa(i) {
			return true
		}
	}
	return false
}

// String is the rule as it was written.
func (r NameRule) String() string { return r.text }

// MarshalText writes the rule as it was written.
func (r NameRule) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// apply returns what the rule makes of a name that it fits.
func (r NameRule) apply(name string) string {
	return string(r.pattern.ExpandString(nil, r.replacement, name, r.pattern.FindStringSubmatchIndex(name)))
}

// first is the index of the rule that holds for the name; -1: none does.
func (n Names) first(name string) int {
	return slices.IndexFunc(n.Rules, func(r NameRule) bool { return r.pattern.MatchString(name) })
}

// Owner returns the name of the owner whose tokens open iRODS for the presented name. What is no iRODS user's
// name is nobody else's.
func (n Names) Owner(presented string) string {
	if CheckUser(presented) != nil {
		return presented
	}
	owner := presented
	if i := n.first(presented); i >= 0 {
		owner = n.Rules[i].apply(presented)
	}
	at := strings.LastIndexByte(owner, '@') + 1
	if at == 0 {
		return owner
	}
	switch n.DomainCase {
	case UpperCase:
		return owner[:at] + strings.ToUpper(owner[at:])
	case LowerCase:
		return owner[:at] + strings.ToLower(owner[at:])
	}
	return owner
}

// Merged says, with examples, which names of iRODS users are one owner's by the rules: all of these come in
// with the same tokens.
func (n Names) Merged() (said []string) {
	for i, r := range n.Rules {
		said = append(said, n.merged(i, r))
	}
	if n.DomainCase == UpperCase || n.DomainCase == LowerCase {
		said = append(said, fmt.Sprintf("domain_case = %q lets iRODS users whose names differ only in the case of what stands behind the @, such as alice@A.ORG and alice@a.org, in with the same tokens", n.DomainCase))
	}
	return said
}

func (n Names) merged(i int, r NameRule) string {
	var names []string
	for variant := range 2 {
		name := example(r.pattern.String(), variant)
		owner := n.Owner(name)
		if n.first(name) != i || CheckUser(owner) != nil {
			continue
		}
		if owner != name && n.Owner(owner) == owner {
			return fmt.Sprintf("rule %d, %s, lets the iRODS users %s and %s in with the same tokens: those of %[4]s", i+1, r, name, owner)
		}
		if len(names) > 0 && names[0] != name && n.Owner(names[0]) == owner {
			return fmt.Sprintf("rule %d, %s, lets the iRODS users %s and %s in with the same tokens: those of %s", i+1, r, names[0], name, owner)
		}
		names = append(names, name)
	}
	return fmt.Sprintf("rule %d, %s, may let several iRODS users in with the same tokens", i+1, r)
}

// example is a name that the pattern may fit; of two variants, the second is another one where it can be.
func example(pattern string, variant int) string {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return ""
	}
	var b strings.Builder
	write(&b, re.Simplify(), variant)
	return b.String()
}

func write(b *strings.Builder, re *syntax.Regexp, variant int) {
	words := [...]string{"alice", "bob"}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteByte(words[variant][0])
	case syntax.OpCharClass:
		b.WriteByte(oneOf(re.Rune, variant))
	case syntax.OpStar, syntax.OpPlus:
		if op := re.Sub[0].Op; op == syntax.OpAnyChar || op == syntax.OpAnyCharNotNL {
			b.WriteString(words[variant])
			return
		}
		for range 3 {
			write(b, re.Sub[0], variant)
		}
	case syntax.OpAlternate:
		write(b, re.Sub[min(variant, len(re.Sub)-1)], variant)
	case syntax.OpCapture, syntax.OpConcat, syntax.OpQuest:
		for _, sub := range re.Sub {
			write(b, sub, variant)
		}
	}
}

// oneOf is a character of the class that a name may have.
func oneOf(class []rune, variant int) byte {
	const most = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-"
	found := byte('x')
	for i := range len(most) {
		for r := 0; r < len(class); r += 2 {
			if c := rune(most[i]); c >= class[r] && c <= class[r+1] {
				if found = most[i]; variant == 0 {
					return found
				}
				variant--
			}
		}
	}
	return found
}
