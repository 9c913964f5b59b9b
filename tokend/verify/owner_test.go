package verify_test

import (
	"testing"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestNamesOpenTheOwnersTokens, in either store.
func TestNamesOpenTheOwnersTokens(t *testing.T) {
	t.Parallel()
	rule, err := token.ParseNameRule(`(.+)@B\.ORG -> $1@b.org`)
	must(err)
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) { c.Settings.Names.Rules = []token.NameRule{rule} })
	oidc, ldap := f.Mint(f.User("alice@b.org")), f.Mint(f.User("alice@CHARITE"))
	ours := f.mint(t, token.Record{Owner: "alice@b.org"})
	for _, c := range []struct {
		name, secret string
		want         verify.Reason
	}{
		{"alice@B.ORG", oidc.Reveal(), verify.OK}, {"alice@b.org", oidc.Reveal(), verify.OK}, {"alice@B.ORG", ours.Reveal(), verify.OK},
		{"alice@CHARITE", ldap.Reveal(), verify.OK}, {"alice@charite", ldap.Reveal(), verify.WrongUser},
		{"alice@B.ORG", ldap.Reveal(), verify.WrongUser}, {"bob@B.ORG", oidc.Reveal(), verify.WrongUser},
	} {
		if got := f.Check(t.Context(), c.name, c.secret); got.Reason != c.want {
			t.Errorf("%s: %s (%v), want %s", c.name, got.Reason, got.Detail, c.want)
		}
	}
	if detail := f.Check(t.Context(), "bob@B.ORG", oidc.Reveal()).Detail.Error(); detail != "the token is alice@b.org's, and by [names] it would have to be bob@b.org's" {
		t.Errorf("the log has %s", detail)
	}
}

// TestATokenOfNobodyOpensNothing, as where the column of the names may be empty.
func TestATokenOfNobodyOpensNothing(t *testing.T) {
	t.Parallel()
	f := newKnox(t, "sodar-1.3")
	f.Exec(`ALTER TABLE users_user ALTER username DROP NOT NULL`)
	for _, name := range []string{"''", "NULL"} {
		var id int
		must(f.Owner().QueryRow(t.Context(), `INSERT INTO users_user (username) VALUES (`+name+`) RETURNING id`).Scan(&id))
		if got := f.Check(t.Context(), "", f.Mint(id).Reveal()).Reason; got != verify.WrongUser {
			t.Errorf("%s: %s", name, got)
		}
	}
	for record, err := range f.knox.All(t.Context(), nil) {
		if err != nil || record.Owner != "" {
			t.Errorf("to be imported: %+v, %v", record, err)
		}
	}
}
