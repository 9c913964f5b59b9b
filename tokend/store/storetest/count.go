package storetest

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tokend/tokend/token"
)

var counts = []claim{
	{"CountOfAnEmptyStoreHasEveryState", func(t *testing.T, s Store) {
		got, err := s.Count(t.Context(), now, token.Forever)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "count", got, map[token.State]int{token.Active: 0, token.Expired: 0, token.Revoked: 0})
	}},

	{"CountAgreesWithTheStateOfEachRecord", func(t *testing.T, s Store) {
		kept := mintGrid(t, s)
		rapid.Check(t, func(t *rapid.T) {
			at := now.Add(time.Duration(rapid.IntRange(-1, 6).Draw(t, "seconds"))*time.Second +
				time.Duration(rapid.IntRange(-2000, 2000).Draw(t, "nanoseconds")))
			limit := token.Life(rapid.OneOf(
				rapid.Int64Range(-2, 6), // about the tokens' ages
				rapid.SampledFrom([]int64{10_000 * 366 * 86_400, 1 << 41, -1 << 41}), // beyond all of them
			).Draw(t, "limit"))
			want := map[token.State]int{token.Active: 0, token.Expired: 0, token.Revoked: 0}
			for _, r := range kept {
				want[r.StateAt(at, limit)]++
			}
			got, err := s.Count(t.Context(), at, limit)
			if err != nil {
				t.Fatal(err)
			}
			if got[token.Active] != want[token.Active] || got[token.Expired] != want[token.Expired] ||
				got[token.Revoked] != want[token.Revoked] || len(got) != len(want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		})
	}},
}

// mintGrid mints tokens of every age, expiry and revocation on a grid of
// seconds and microseconds.
func mintGrid(t *testing.T, s Store) []token.Record {
	t.Helper()
	var kept []token.Record
	for created := range 3 {
		for expires := range 4 {
			for revoked := range 2 {
				r := newRecord("alice")
				r.Created = now.Add(time.Duration(created)*time.Second + time.Duration(created-1)*time.Microsecond)
				if expires > 0 {
					r.Expires = now.Add(time.Duration(expires)*time.Second - time.Duration(expires-2)*time.Microsecond)
				}
				mint(t, s, r)
				if revoked > 0 {
					r = revoke(t, s, token.Selection{ID: r.ID}, now.Add(time.Hour))[0]
				}
				kept = append(kept, r)
			}
		}
	}
	return kept
}
