package verify_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// verdicts is the rule. The first line that fits decides; * is any value.
const verdicts = `
	revoked  expires  limit   disabled  name      verdict

	yes      *        *       *         *         revoked
	no       1µs-ago  *       *         *         expired
	no       *        1µs-ago *         *         expired
	no       *        *       yes       *         user-disabled
	no       *        *       no        another's wrong-user
	no       *        *       no        owner's   ok
`

// situations are all that the columns of verdicts can say.
var situations = product(
	[]string{"yes", "no"},
	[]string{"never", "in-1µs", "now", "1µs-ago"},
	[]string{"never", "in-1µs", "now", "1µs-ago"},
	[]string{"yes", "no"},
	[]string{"owner's", "another's"},
)

func TestVerdictFollowsTheTable(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(verdicts), "\n")[2:]
	used := map[string]bool{}
	var clock time.Time
	f := newFixture(t, verify.Config{Now: func() time.Time { return clock }})
	for _, situation := range situations {
		line := fitting(lines, situation)
		used[line] = true
		want := verify.Reason(strings.Fields(line)[len(situation)])
		t.Run(strings.Join(situation, " "), func(t *testing.T) {
			at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			secret, user := f.arrange(t, at, situation)
			for _, sub := range []time.Duration{0, time.Microsecond - time.Nanosecond} {
				clock = at.Add(sub)
				if got := f.Check(t.Context(), user, secret.Reveal()).Reason; got != want {
					t.Errorf("%s after the microsecond: got %s, want %s", sub, got, want)
				}
			}
		})
	}
	if len(used) != len(lines) {
		t.Errorf("%d of %d lines were used", len(used), len(lines))
	}
}

// arrange makes a situation true at a time, and returns who presents what.
func (f *fixture) arrange(t *testing.T, at time.Time, situation []string) (token.Secret, string) {
	t.Helper()
	const life = token.Life(3600)
	moments := map[string]time.Duration{"in-1µs": time.Microsecond, "now": 0, "1µs-ago": -time.Microsecond}
	revoked, expires, limit, disabled, name := situation[0], situation[1], situation[2], situation[3], situation[4]
	owner := token.NewID()
	record := token.Record{Owner: owner, Created: at.Add(-time.Hour)}
	if expires != "never" {
		record.Expires = at.Add(moments[expires])
	}
	settings := verify.Settings{TTL: ttl, Stale: stale}
	if limit != "never" {
		settings.MaxExpiry = life
		record.Created = at.Add(-time.Hour + moments[limit])
	}
	f.Apply(settings)
	secret := f.mint(t, record)
	if revoked == "yes" {
		f.revoke(t, secret)
	}
	if disabled == "yes" {
		f.disable(t, owner)
	}
	if name == "another's" {
		return secret, "bob"
	}
	return secret, owner
}

func fitting(lines []string, situation []string) string {
	for _, line := range lines {
		fits := true
		for i, pattern := range strings.Fields(line)[:len(situation)] {
			fits = fits && (pattern == "*" || pattern == situation[i])
		}
		if fits {
			return line
		}
	}
	return ""
}

// product combines each value of a column with each of the others.
func product(columns ...[]string) [][]string {
	rows := [][]string{nil}
	for _, column := range columns {
		var longer [][]string
		for _, row := range rows {
			for _, value := range column {
				longer = append(longer, append(slices.Clip(row), value))
			}
		}
		rows = longer
	}
	return rows
}

func TestExpiryIsJudgedAtEveryLoginThoughTheRecordIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		secret := f.mint(t, token.Record{Expires: time.Now().Add(ttl / 2)})
		if n := f.source.asks(func() {
			f.expect(t, secret, verify.OK)
			time.Sleep(ttl / 2)
			f.expect(t, secret, verify.OK)
			time.Sleep(time.Microsecond)
			f.expect(t, secret, verify.Expired)
		}); n != 1 {
			t.Errorf("%d look-ups, want 1", n)
		}
	})
}

func TestALowerLimitHoldsAtTheNextLoginThoughTheRecordIsCached(t *testing.T) {
	f := newFixture(t, verify.Config{})
	secret := f.mint(t, token.Record{Created: time.Now().Add(-time.Hour)})
	f.expect(t, secret, verify.OK)
	f.Apply(verify.Settings{TTL: ttl, Stale: stale, MaxExpiry: 3599})
	if n := f.source.asks(func() { f.expect(t, secret, verify.Expired) }); n != 0 {
		t.Errorf("%d look-ups, want 0", n)
	}
}

func TestTheNameMustBeTheOwnersToTheByte(t *testing.T) {
	f := newFixture(t, verify.Config{})
	secret := f.mint(t, token.Record{Owner: "alice"})
	for _, name := range []string{
		"", "Alice", "ALICE", "alic", "alicee", " alice", "alice ", "alice\n", "alice\x00", "alice#tempZone", "alice\xff", "аlice",
	} {
		if got := f.Check(t.Context(), name, secret.Reveal()).Reason; got != verify.WrongUser {
			t.Errorf("%q: got %s", name, got)
		}
	}
	if got := f.Check(t.Context(), "alice", secret.Reveal()); !got.OK() || got.Token == "" {
		t.Errorf("alice: got %+v", got)
	}
}

func TestTheZeroVerdictIsNoYes(t *testing.T) {
	if (verify.Verdict{}).OK() {
		t.Error("it is")
	}
}

// TestClockThatIsFarBackRevivesNothing: a machine comes up in 1970. What never
// expires needs no clock.
func TestClockThatIsFarBackRevivesNothing(t *testing.T) {
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		what    string
		now     time.Time
		expires time.Time
		limit   token.Life
		want    verify.Reason
	}{
		{"expired by now, in 1970", time.Unix(0, 0), made.Add(time.Hour), token.Forever, verify.Unavailable},
		{"of a limited life, in 1970", time.Unix(0, 0), time.Time{}, 3600, verify.Unavailable},
		{"for ever, in 1970", time.Unix(0, 0), time.Time{}, token.Forever, verify.OK},
		{"made on a node whose clock is ahead", made.Add(-time.Minute), made.Add(time.Hour), token.Forever, verify.OK},
		{"and further ahead", made.Add(-time.Minute - time.Microsecond), made.Add(time.Hour), token.Forever, verify.Unavailable},
	} {
		f := newFixture(t, verify.Config{Now: func() time.Time { return row.now }, Settings: verify.Settings{TTL: ttl, MaxExpiry: row.limit}})
		secret := f.mint(t, token.Record{Created: made, Expires: row.expires})
		verdict := f.Check(t.Context(), "alice", secret.Reveal())
		if verdict.Reason != row.want {
			t.Errorf("%s: got %s, %v, want %s", row.what, verdict.Reason, verdict.Detail, row.want)
		}
		if row.want == verify.Unavailable && !strings.Contains(verdict.Detail.Error(), "by this machine's clock, before the token was made") {
			t.Errorf("%s: got %v", row.what, verdict.Detail)
		}
	}
}

// TestAUseIsHeardOf: each yes to a token of tokend's own or an imported one, and nothing else.
func TestAUseIsHeardOf(t *testing.T) {
	t.Parallel()
	var heard []token.Use
	f := newKnox(t, "sodar-1.3", func(c *verify.Config) { c.Used = func(u token.Use) { heard = append(heard, u) } })
	ours, sodars := f.mint(t, token.Record{}), f.Mint(f.User("alice"))
	id := f.Check(t.Context(), "alice", ours.Reveal()).Token
	before := time.Now()
	for _, c := range []struct{ user, secret string }{{"alice", ours.Reveal()}, {"bob", ours.Reveal()}, {"alice", sodars.Reveal()}, {"alice", token.Mint().Reveal()}, {"alice", "x"}} {
		f.Check(t.Context(), c.user, c.secret)
	}
	if len(heard) != 2 || heard[0].Token != id || heard[1].Token != id || heard[1].API || heard[1].At.Before(before.Add(-time.Second)) || heard[1].At.After(time.Now().Add(time.Second)) {
		t.Errorf("it hears of %+v", heard)
	}
}
