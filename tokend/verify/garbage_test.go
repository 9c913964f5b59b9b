package verify_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tokend/cache"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

var errBroken = errors.New("the cache is broken")

// broken is a real cache that can be made to fail, and to lie.
type broken struct {
	*cache.Memory
	failing bool
	lie     []byte // nil: it tells the truth
	filled  []byte // what was filled last
}

func (b *broken) Get(ctx context.Context, key string) (cache.Entry, error) {
	switch {
	case b.failing:
		return cache.Entry{Value: []byte("what an error comes with means nothing")}, errBroken
	case b.lie != nil:
		return cache.Entry{Value: b.lie}, nil
	}
	return b.Memory.Get(ctx, key)
}

func (b *broken) Fill(ctx context.Context, key string, seen, value []byte, life time.Duration) error {
	b.filled = value
	if b.failing {
		return errBroken
	}
	return b.Memory.Fill(ctx, key, seen, value, life)
}

func (b *broken) Bury(ctx context.Context, life time.Duration, keys ...string) error {
	if b.failing {
		return errBroken
	}
	return b.Memory.Bury(ctx, life, keys...)
}

// TestACacheThatFailsCostsTimeAndNoVerdict: every check asks the store.
func TestACacheThatFailsCostsTimeAndNoVerdict(t *testing.T) {
	records := &broken{Memory: newMemory(t), failing: true}
	f := newFixture(t, verify.Config{Cache: records})
	good, revoked := f.mint(t, token.Record{}), f.mint(t, token.Record{})
	f.revoke(t, revoked)
	if n := f.source.asks(func() {
		for range 3 {
			f.expect(t, good, verify.OK)
			f.expect(t, revoked, verify.Revoked)
		}
	}); n != 6 {
		t.Errorf("%d look-ups, want 6", n)
	}
	if err := f.Forget(t.Context(), good.Digest(), revoked.Digest()); !errors.Is(err, errBroken) {
		t.Errorf("Forget: got %v", err)
	}
	records.failing = false
	f.expect(t, good, verify.OK)
	if n := f.source.asks(func() { f.expect(t, good, verify.OK) }); n != 0 {
		t.Errorf("cache works again: %d look-ups, want 0", n)
	}
}

// TestGarbageInTheCacheCostsTimeAndNoVerdict puts texts in the place of the
// record of a revoked token, and of a good one.
func TestGarbageInTheCacheCostsTimeAndNoVerdict(t *testing.T) {
	records := &broken{Memory: newMemory(t)}
	f := newFixture(t, verify.Config{Cache: records})
	good, revoked, another := f.mint(t, token.Record{}), f.mint(t, token.Record{}), f.mint(t, token.Record{})
	f.revoke(t, revoked)
	f.expect(t, another, verify.OK)
	anothers := string(records.filled)
	f.expect(t, good, verify.OK)
	goods := string(records.filled)
	d := good.Digest()
	if digest := strings.Index(goods, string(d[:])); digest != 34 { // see verify's sighting.go
		t.Fatalf("the digest is at %d of a cached record", digest)
	}
	texts := []string{
		"", "null", "{}", "0", "\x00", "\x03", "\xff", strings.Repeat("9", 1000), strings.Repeat("\x03\x00", 50_000),
		`{"Record":{"Digest":"` + d.String() + `"},"Read":"` + time.Now().Format(time.RFC3339) + `"}`,
		anothers, goods + "x", "\x02" + goods[1:], "\x04" + goods[1:],
		goods[:2] + "\x7f" + goods[3:],        // read in the far future
		goods[:1] + "\x40" + goods[2:],        // a flag that means nothing
		goods[:1] + "\x00" + goods[2:],        // a time that is not there, and is
		goods[:98] + "\xff\xff" + goods[100:], // a text that is longer than all
	}
	for n := range len(goods) {
		texts = append(texts, goods[:n])
	}
	for _, text := range texts {
		records.lie = []byte(text)
		for secret, want := range map[token.Secret]verify.Reason{good: verify.OK, revoked: verify.Revoked, token.Mint(): verify.Unknown} {
			if n := f.source.asks(func() { f.expect(t, secret, want) }); n != 1 {
				t.Errorf("%.40q: %d look-ups, want 1", text, n)
			}
		}
		f.source.replace(away)
		f.expect(t, good, verify.Unavailable)
		f.source.replace(nil)
	}
}
