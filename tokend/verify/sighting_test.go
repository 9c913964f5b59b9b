package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// TestACachedRecordIsJudgedAsTheStoresIs, whatever is in it.
func TestACachedRecordIsJudgedAsTheStoresIs(t *testing.T) {
	f := newFixture(t, verify.Config{})
	now := token.Time(time.Now())
	revoked, disabled := f.mint(t, token.Record{}), f.mint(t, token.Record{Owner: "bob", Expires: now.Add(time.Hour)})
	f.revoke(t, revoked)
	f.disable(t, "bob")
	limited := verify.Settings{TTL: ttl, MaxExpiry: token.Life(3600)}
	for name, row := range map[string]struct {
		secret   token.Secret
		settings verify.Settings
		want     verify.Reason
	}{
		"plain":              {f.mint(t, token.Record{}), verify.Settings{TTL: ttl}, verify.OK},
		"with an end":        {f.mint(t, token.Record{Expires: now.Add(time.Hour)}), verify.Settings{TTL: ttl}, verify.OK},
		"expired":            {f.mint(t, token.Record{Created: now.Add(-time.Hour), Expires: now.Add(-time.Second)}), verify.Settings{TTL: ttl}, verify.Expired},
		"expired in 1960":    {f.mint(t, token.Record{Created: now.AddDate(-70, 0, 0), Expires: now.AddDate(-66, 0, 0)}), verify.Settings{TTL: ttl}, verify.Expired},
		"ended at 0 by Unix": {f.mint(t, token.Record{Created: now.AddDate(-70, 0, 0), Expires: time.Unix(0, 0).UTC()}), verify.Settings{TTL: ttl}, verify.Expired},
		"older than may be":  {f.mint(t, token.Record{Created: now.Add(-2 * time.Hour)}), limited, verify.Expired},
		"younger":            {f.mint(t, token.Record{Created: now.Add(-time.Minute)}), limited, verify.OK},
		"somebody else's":    {f.mint(t, token.Record{Owner: strings.Repeat("b", 63), Label: strings.Repeat("ü", 256)}), verify.Settings{TTL: ttl}, verify.WrongUser},
		"revoked":            {revoked, verify.Settings{TTL: ttl}, verify.Revoked},
		"disabled":           {disabled, verify.Settings{TTL: ttl}, verify.UserDisabled},
	} {
		f.Apply(row.settings)
		verdict := func() string {
			v := f.Check(t.Context(), "alice", row.secret.Reveal())
			return fmt.Sprintln(v.Reason, v.Token, v.Detail)
		}
		var stored, cached string
		if n := f.source.asks(func() { stored = verdict() }); n != 1 {
			t.Fatalf("%s: %d look-ups for the first check", name, n)
		}
		if n := f.source.asks(func() { cached = verdict() }); n != 0 {
			t.Errorf("%s: %d look-ups for the second check", name, n)
		}
		if cached != stored || !strings.HasPrefix(stored, string(row.want)+" ") {
			t.Errorf("%s: from the store %sfrom the cache %swant %s", name, stored, cached, row.want)
		}
	}
}
