package main

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
)

// TestARotationReturnsWhenTheNewKeySeals, though only who hears of changes takes it over.
func TestARotationReturnsWhenTheNewKeySeals(t *testing.T) {
	n, redis := shares(t)
	s := n.store.(shared)
	inBackground(t, n.redis.Run)
	event := token.Event{At: time.Now(), Action: token.CacheRotated}
	if err := n.rotateKey(t.Context(), event); err == nil || !strings.Contains(err.Error(), "the key is not replaced while this daemon does not hear of changes") {
		t.Errorf("nobody listens: %v", err)
	}
	listens := func(watch func(context.Context)) (stop func()) {
		stop = inBackground(t, watch)
		for !s.Hears() {
			time.Sleep(time.Millisecond)
		}
		return stop
	}
	for !n.redis.Used() {
		time.Sleep(time.Millisecond)
	}
	stop := listens(func(ctx context.Context) { s.Watch(ctx, n.heard, n.takeKeys) })
	for range 10 {
		if err := n.rotateKey(t.Context(), event); err != nil {
			t.Fatal(err)
		}
		n.check(t.Context(), n.create(t))
		if kept, err := s.CacheKeys(t.Context()); err != nil || newestIn(t, redis) != kept[0].Number {
			t.Fatalf("key %d seals, %d is the newest, %v", newestIn(t, redis), kept[0].Number, err)
		}
	}
	// A backup is put back, with lower numbers, which nobody has told of yet.
	db, err := pgx.Connect(t.Context(), n.cfg.Store.URL)
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, func() error { return db.Close(context.Background()) })
	if _, err := db.Exec(t.Context(), `DELETE FROM cache_keys WHERE number BETWEEN 1 AND (SELECT max(number) - 1 FROM cache_keys);
		UPDATE cache_keys SET number = 1 WHERE number > 0`); err != nil {
		t.Fatal(err)
	}
	if err := n.rotateKey(t.Context(), event); err != nil || n.newestKey.Load() != 2 {
		t.Errorf("after a backup was put back: key %d, %v", n.newestKey.Load(), err)
	}
	stop()
	listens(func(ctx context.Context) { s.Watch(ctx, n.heard, nil) })
	if err := n.rotateKey(t.Context(), event); err == nil || !strings.Contains(err.Error(), "the key is replaced, and this daemon goes by the one before") {
		t.Errorf("nobody takes keys over: %v", err)
	}
}

// newestIn is the highest number of a key that has sealed what Redis holds (see cache's seal.go).
func newestIn(t *testing.T, redis *servers.Redis) (newest uint32) {
	t.Helper()
	names, err := redis.Exec(t.Context(), "KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names.([]any) {
		value, err := redis.Exec(t.Context(), "GET", name)
		if text, is := value.(string); err == nil && is && len(text) > 40 {
			newest = max(newest, binary.BigEndian.Uint32([]byte(text[1:])))
		}
	}
	return newest
}

// TestAKeyThatWasReplacedEnds when nothing is believed any more that it has sealed.
func TestAKeyThatWasReplacedEnds(t *testing.T) {
	n, _ := shares(t)
	s := n.store.(shared)
	if _, err := s.RotateCacheKey(t.Context(), token.Event{At: time.Now(), Action: token.CacheRotated}); err != nil {
		t.Fatal(err)
	}
	const life = 42 * time.Minute
	kept, err := s.CacheKeys(t.Context())
	keys := asKeys(kept, life)
	if err != nil || len(keys.Seals) != 2 {
		t.Fatalf("%d keys, %v", len(keys.Seals), err)
	}
	if until := keys.Seals[0].Until; !until.IsZero() {
		t.Errorf("the new one ends %v", until)
	}
	if left := time.Until(keys.Seals[1].Until); left > life || left < life-time.Minute {
		t.Errorf("the one before ends in %v", left)
	}
}
