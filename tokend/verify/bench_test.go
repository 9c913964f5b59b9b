package verify_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tokend/cache"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// BenchmarkCheck measures a yes: from the cache, from the store (its record is
// forgotten by age at once), and a no to what cannot be a token.
func BenchmarkCheck(b *testing.B) {
	store, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "tokend.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	secret := token.Mint()
	record := token.Record{ID: token.NewID(), Digest: secret.Digest(), Owner: "alice", Created: time.Now()}
	if err := store.Mint(b.Context(), record, token.Quota{}, token.Event{At: time.Now()}); err != nil {
		b.Fatal(err)
	}
	records, err := cache.NewMemory(1000)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, secret string
		ttl          time.Duration
		want         verify.Reason
	}{
		{"cached", secret.Reveal(), time.Hour, verify.OK},
		{"cold", secret.Reveal(), time.Nanosecond, verify.OK},
		{"malformed", secret.Reveal()[1:], time.Hour, verify.Malformed},
	} {
		b.Run(c.name, func(b *testing.B) {
			v, err := verify.New(verify.Config{
				Source: store, Cache: records, CacheTier: "memory", Logger: discard,
				Settings: verify.Settings{TTL: c.ttl}, Registerer: prometheus.NewRegistry(),
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if got := v.Check(b.Context(), "alice", c.secret).Reason; got != c.want {
						b.Errorf("got %s, want %s", got, c.want)
						return
					}
				}
			})
		})
	}
}
