package storetest

import (
	"strings"
	"testing"
	"time"

	"tokend/tokend/token"
)

var lookups = []claim{
	{"UnknownDigestIsNotFound", func(t *testing.T, s Store) {
		_, err := s.Lookup(t.Context(), newRecord("alice").Digest)
		fails(t, "look up in an empty store", err, token.ErrNotFound)
		mintNew(t, s, "alice", 1)
		_, err = s.Lookup(t.Context(), newRecord("alice").Digest)
		fails(t, "look up another digest", err, token.ErrNotFound)
	}},

	{"EveryFieldComesBack", func(t *testing.T, s Store) {
		r := newRecord("alice.b-c_d@example.org")
		r.Label, r.API = "cluster job", true
		r.Expires = now.Add(36*time.Hour + 123_456*time.Microsecond)
		r.Revoked = now.Add(time.Microsecond)
		mint(t, s, r)
		same(t, "record", lookup(t, s, r.Digest), r)
	}},

	{"NeverExpiringAndNotRevokedStayZero", func(t *testing.T, s Store) {
		r := newRecord("alice")
		mint(t, s, r)
		got := lookup(t, s, r.Digest)
		if !got.Expires.IsZero() || !got.Revoked.IsZero() {
			t.Errorf("expires %v, revoked %v, want zero times", got.Expires, got.Revoked)
		}
	}},

	{"TimesComeBackInUTCAndWholeMicroseconds", func(t *testing.T, s Store) {
		zone := time.FixedZone("", 5*3600+1800)
		r := newRecord("alice")
		r.Created = time.Date(2026, time.July, 1, 2, 3, 4, 999_999_999, zone)
		r.Expires = time.Date(9999, time.December, 31, 23, 59, 59, 999_999_999, time.UTC)
		mint(t, s, r)
		got := lookup(t, s, r.Digest)
		for _, times := range [][2]time.Time{{got.Created, r.Created}, {got.Expires, r.Expires}} {
			if times[0] != token.Time(times[1]) { // the same moment, and the same way of saying it
				t.Errorf("kept %v of %v", times[0], times[1])
			}
		}
	}},

	{"TimeBefore1970ComesBack", func(t *testing.T, s Store) {
		r := newRecord("alice")
		r.Created = time.Date(1969, time.July, 20, 20, 17, 40, 1_000, time.UTC)
		mint(t, s, r)
		same(t, "record", lookup(t, s, r.Digest), r)
	}},

	{"LabelOf256CharactersOfUnicodeComesBack", func(t *testing.T, s Store) {
		for _, characters := range []string{"€", "𝔸", "🔑", "e\u0301", "שלום", `'"\;--%_`, " ", "\u2028"} {
			r := newRecord("alice")
			r.Label = string([]rune(strings.Repeat(characters, token.MaxLabel))[:token.MaxLabel])
			mint(t, s, r)
			same(t, "record", lookup(t, s, r.Digest), r)
		}
	}},

	{"EmptyHintAndLabelComeBack", func(t *testing.T, s Store) {
		r := newRecord("alice")
		r.Hint, r.Label = "", ""
		mint(t, s, r)
		same(t, "record", lookup(t, s, r.Digest), r)
	}},

	{"ExpiredAndRevokedTokensAreFound", func(t *testing.T, s Store) {
		old, gone := newRecord("alice"), newRecord("alice")
		old.Expires = now.Add(-time.Hour)
		mint(t, s, old, gone)
		gone.Revoked = now
		revoke(t, s, token.Selection{ID: gone.ID}, now)
		same(t, "expired", lookup(t, s, old.Digest), old)
		same(t, "revoked", lookup(t, s, gone.Digest), gone)
	}},

	{"LookupTellsWhetherTheOwnerIsDisabled", func(t *testing.T, s Store) {
		r, other := newRecord("alice"), newRecord("bob")
		mint(t, s, r, other)
		for _, disabled := range []bool{true, false, true} {
			setDisabled(t, s, "alice", disabled)
			if got := lookup(t, s, r.Digest).OwnerDisabled; got != disabled {
				t.Errorf("alice's record says disabled %v, want %v", got, disabled)
			}
			if lookup(t, s, other.Digest).OwnerDisabled {
				t.Error("bob's record says that bob is disabled")
			}
		}
	}},

	{"NamesThatDifferInCaseAreTwoUsers", func(t *testing.T, s Store) {
		lower, upper := newRecord("alice"), newRecord("Alice")
		mint(t, s, lower, upper)
		setDisabled(t, s, "Alice", true)
		upper.OwnerDisabled = true
		same(t, "lower", lookup(t, s, lower.Digest), lower)
		same(t, "upper", lookup(t, s, upper.Digest), upper)
		same(t, "users", users(t, s), []token.User{{Name: "Alice", Disabled: now, Tokens: 1}, {Name: "alice", Tokens: 1}})
		same(t, "alice's records", records(t, s, token.Page{Owner: "alice", Limit: all}), []token.Record{lower})
		same(t, "alice's events", actions(t, s, "alice"), []token.Action{token.TokenCreated})
	}},

	{"PingAnswers", func(t *testing.T, s Store) {
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}},
}
