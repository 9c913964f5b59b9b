package token_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	justBefore = -time.Microsecond
	justAfter  = time.Microsecond
)

func TestStateOfAToken(t *testing.T) {
	const (
		active  = token.Active
		expired = token.Expired
		revoked = token.Revoked
		none    = token.Forever
	)
	never, created := time.Time{}, noon.Add(-10*time.Hour)
	for _, row := range []struct {
		name    string
		revoked time.Time
		expires time.Time
		limit   token.Life
		now     time.Time
		want    token.State
	}{
		{"a microsecond before its end", never, noon, none, noon.Add(justBefore), active},
		{"at its end", never, noon, none, noon, active},
		{"less than a microsecond past its end", never, noon, none, noon.Add(999), active},
		{"a microsecond past its end", never, noon, none, noon.Add(justAfter), expired},
		{"a year past its end", never, noon, none, noon.AddDate(1, 0, 0), expired},
		{"by a clock elsewhere, at its end", never, noon, none, noon.In(time.FixedZone("", 3600)), active},
		{"by a clock elsewhere, past its end", never, noon, none, noon.Add(justAfter).In(time.FixedZone("", -3600)), expired},
		{"no end", never, never, none, noon.AddDate(7000, 0, 0), active},

		{"no end, a microsecond before the limit's", never, never, 10 * hour, noon.Add(justBefore), active},
		{"no end, at the limit's", never, never, 10 * hour, noon, active},
		{"no end, less than a microsecond past the limit's", never, never, 10 * hour, noon.Add(999), active},
		{"no end, a microsecond past the limit's", never, never, 10 * hour, noon.Add(justAfter), expired},
		{"its end before the limit's, between them", never, noon, 11 * hour, noon.Add(justAfter), expired},
		{"its end before the limit's, at its end", never, noon, 11 * hour, noon, active},
		{"its end behind the limit's, between them", never, noon, 9 * hour, noon.Add(justBefore), expired},
		{"its end behind the limit's, at the limit's", never, noon, 9 * hour, noon.Add(-time.Hour), active},
		{"its end and the limit's together, at them", never, noon, 10 * hour, noon, active},
		{"its end and the limit's together, past them", never, noon, 10 * hour, noon.Add(justAfter), expired},

		{"revoked, not expired", noon, never, none, noon, revoked},
		{"revoked, expired", noon, noon, none, noon.Add(time.Hour), revoked},
		{"revoked, by a clock that is behind", noon, never, none, noon.Add(-time.Hour), revoked},
		{"revoked, past the limit", noon, never, hour, noon, revoked},
	} {
		record := token.Record{Created: created, Expires: row.expires, Revoked: row.revoked}
		if got := record.StateAt(row.now, row.limit); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
	}
}

func TestTheDisabledOwnerIsNoMatterOfTheTokensState(t *testing.T) {
	record := token.Record{Created: noon, OwnerDisabled: true}
	if got := record.StateAt(noon, token.Forever); got != token.Active {
		t.Errorf("got %s", got)
	}
}

func TestTheEarlierEndCounts(t *testing.T) {
	never := time.Time{}
	for _, row := range []struct {
		name    string
		expires time.Time
		limit   token.Life
		want    time.Time
	}{
		{"no end, no limit", never, token.Forever, never},
		{"an end, no limit", noon.Add(time.Hour), token.Forever, noon.Add(time.Hour)},
		{"no end, a limit", never, hour, noon.Add(time.Hour)},
		{"the end is earlier", noon.Add(time.Hour), 2 * hour, noon.Add(time.Hour)},
		{"the limit is earlier", noon.Add(3 * time.Hour), 2 * hour, noon.Add(2 * time.Hour)},
		{"the limit is earlier by a microsecond", noon.Add(time.Hour + justAfter), hour, noon.Add(time.Hour)},
		{"the end is earlier by a microsecond", noon.Add(time.Hour + justBefore), hour, noon.Add(time.Hour + justBefore)},
		{"both together", noon.Add(time.Hour), hour, noon.Add(time.Hour)},
		{"a limit longer than a Duration", never, 400 * 365 * day, noon.AddDate(0, 0, 400*365)},
	} {
		record := token.Record{Created: noon, Expires: row.expires}
		if got := record.ExpiresUnder(row.limit); !got.Equal(row.want) {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}

func TestTimesAreWholeMicrosecondsInUTC(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds")
		nanoseconds := rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")
		zone := time.FixedZone("", rapid.IntRange(-12*3600, 14*3600).Draw(t, "zone"))
		at := time.Unix(seconds, nanoseconds)
		got := token.Time(at.In(zone))
		lost := at.Sub(got)
		if got.Location() != time.UTC || got.Nanosecond()%1000 != 0 || lost < 0 || lost >= time.Microsecond {
			t.Errorf("%v became %v", at, got)
		}
	})
	now := time.Now()
	if got := token.Time(now); got != got.Round(0) {
		t.Errorf("%v keeps the monotonic clock", got)
	}
}
