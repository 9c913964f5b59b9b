package manage_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// TestEveryChangeIsAnEntryOfTheAuditTrail for each token or user that it
// changed; what changes nothing is none.
func TestEveryChangeIsAnEntryOfTheAuditTrail(t *testing.T) {
	const jane = "uid=1000(jane)"
	f := newFixture(t, manage.Limits{})
	_, byID := f.create(t, "alice", "")
	found, bySecret := f.create(t, "alice", "")
	_, older := f.create(t, "alice", "")
	f.now = f.now.Add(time.Second)
	_, newer := f.create(t, "alice", "")
	ended := func(id, why string) token.Event {
		return token.Event{Action: token.TokenRevoked, Token: id, Detail: why}
	}
	const all = "all of the user's tokens"
	ctx := t.Context()
	for _, row := range []struct {
		what string
		do   func() error
		want []token.Event // newest first, all of them jane's about alice
	}{
		{"revoke", func() error { _, err := f.Revoke(ctx, jane, byID.ID); return err }, []token.Event{ended(byID.ID, "")}},
		{"revoke again", func() error { _, err := f.Revoke(ctx, jane, byID.ID); return err }, nil},
		{"find", func() error { _, err := f.RevokeFound(ctx, jane, found.Reveal()); return err }, []token.Event{ended(bySecret.ID, "its secret was found")}},
		{"find again", func() error { _, err := f.RevokeFound(ctx, jane, found.Reveal()); return err }, nil},
		{"disable", func() error { return f.Disable(ctx, jane, "alice") }, []token.Event{{Action: token.UserDisabled}}},
		{"disable again", func() error { return f.Disable(ctx, jane, "alice") }, nil},
		{"revoke all", func() error { _, err := f.RevokeAll(ctx, jane, "alice"); return err }, []token.Event{ended(older.ID, all), ended(newer.ID, all)}},
		{"revoke all again", func() error { _, err := f.RevokeAll(ctx, jane, "alice"); return err }, nil},
		{"enable", func() error { return f.Enable(ctx, jane, "alice") }, []token.Event{{Action: token.UserEnabled}}},
		{"enable again", func() error { return f.Enable(ctx, jane, "alice") }, nil},
	} {
		f.now = f.now.Add(time.Minute)
		for i := range row.want {
			row.want[i].At, row.want[i].Actor, row.want[i].User = token.Time(f.now), jane, "alice"
		}
		before := len(f.events(t))
		if err := row.do(); err != nil {
			t.Errorf("%s: %v", row.what, err)
		}
		events := f.events(t)
		same(t, row.what, unnumbered(events[:len(events)-before]), row.want)
	}
}

func TestANewTokenIsAnEntryOfTheAuditTrail(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, row := range []struct{ defaults, expiry, label, says string }{
		{"never", "", "", `expires never`},
		{"never", "never", "laptop", `expires never, label "laptop"`},
		{"never", "1d", "", `expires 2026-03-05T04:06:07Z`},
		{"2w", "", `Zoë's "big" one`, `expires 2026-03-18T04:06:07Z, label "Zoë's \"big\" one"`},
		{"2w", "1h", "a\u202eb", `expires 2026-03-04T05:06:07Z, label "a\u202eb"`},
	} {
		life, err := token.ParseLife(row.defaults)
		if err != nil {
			t.Fatal(err)
		}
		f.Apply(manage.Limits{DefaultExpiry: life})
		secret, record, err := f.Create(t.Context(), actor, manage.Request{User: "alice", Label: row.label, Expiry: row.expiry})
		if err != nil {
			t.Fatal(err)
		}
		same(t, row.says, unnumbered(f.events(t))[0], token.Event{
			At: token.Time(begin), Actor: actor, Action: token.TokenCreated, User: "alice", Token: record.ID, Detail: row.says,
		})
		hides(t, "the audit trail", fmt.Sprint(f.events(t)), secret)
	}
}

func TestARefusedChangeIsNoEntryOfTheAuditTrail(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 1})
	_, record := f.create(t, "alice", "")
	_, carols := f.create(t, "carol", "")
	if err := f.Disable(t.Context(), actor, "carol"); err != nil {
		t.Fatal(err)
	}
	before := f.events(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for what, do := range map[string]func() error{
		"create, invalid":        func() error { _, _, err := f.Create(t.Context(), actor, manage.Request{}); return err },
		"create, too many":       func() error { _, _, err := f.Create(t.Context(), actor, manage.Request{User: "alice"}); return err },
		"create, disabled":       func() error { _, _, err := f.Create(t.Context(), actor, manage.Request{User: "carol"}); return err },
		"create, caller gone":    func() error { _, _, err := f.Create(gone, actor, manage.Request{User: "bob"}); return err },
		"revoke, unknown":        func() error { _, err := f.Revoke(t.Context(), actor, "nosuchtoken1"); return err },
		"revoke, caller gone":    func() error { _, err := f.Revoke(gone, actor, record.ID); return err },
		"find, garbage":          func() error { _, err := f.RevokeFound(t.Context(), actor, "swordfish"); return err },
		"find, unknown":          func() error { _, err := f.RevokeFound(t.Context(), actor, token.Mint().Reveal()); return err },
		"revoke all, unknown":    func() error { _, err := f.RevokeAll(t.Context(), actor, "bob"); return err },
		"disable, unknown":       func() error { return f.Disable(t.Context(), actor, "bob") },
		"disable, caller gone":   func() error { return f.Disable(gone, actor, "alice") },
		"enable, unknown":        func() error { return f.Enable(t.Context(), actor, "bob") },
		"enable, caller gone":    func() error { return f.Enable(gone, actor, "carol") },
		"revoke, an ID's prefix": func() error { _, err := f.Revoke(t.Context(), actor, carols.ID[:11]); return err },
	} {
		lines := f.logged(t, func() {
			if do() == nil {
				t.Errorf("%s: it was done", what)
			}
		})
		same(t, what+", log", lines, []line{})
	}
	same(t, "audit trail", f.events(t), before)
}
