package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tokend/cache"
)

func newMemory(t *testing.T, entries int) *cache.Memory {
	t.Helper()
	m, err := cache.NewMemory(entries)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func get(t *testing.T, m *cache.Memory, key string) string {
	t.Helper()
	e, err := m.Get(context.Background(), key)
	switch {
	case err != nil:
		t.Fatal(err)
	case e.Buried && e.Value != nil:
		t.Fatal("a tombstone with a value")
	case e.Buried:
		return "(buried)"
	case e.Value == nil:
		return "(miss)"
	}
	return string(e.Value)
}

func TestWhatWasFilledIsFoundUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 10)
		if got := get(t, m, "k"); got != "(miss)" {
			t.Errorf("empty cache: got %s", got)
		}
		fill(t, m, "k", "v", time.Minute)
		time.Sleep(time.Minute - time.Nanosecond)
		if got := get(t, m, "k"); got != "v" {
			t.Errorf("before its end: got %s", got)
		}
		time.Sleep(time.Nanosecond)
		if got := get(t, m, "k"); got != "(miss)" {
			t.Errorf("at its end: got %s", got)
		}
	})
}

func TestAReadDoesNotProlongALife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 10)
		fill(t, m, "k", "v", time.Minute)
		for range 6 {
			get(t, m, "k")
			time.Sleep(10 * time.Second)
		}
		if got := get(t, m, "k"); got != "(miss)" {
			t.Errorf("got %s", got)
		}
	})
}

func TestAFillNeverOverwritesATombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, 10)
		fill(t, m, "k", "old", time.Hour)
		bury(t, m, "k", time.Minute)
		fill(t, m, "k", "stale", time.Hour)
		if got := get(t, m, "k"); got != "(buried)" {
			t.Errorf("after a fill: got %s", got)
		}
		time.Sleep(time.Minute)
		fill(t, m, "k", "new", time.Hour)
		if got := get(t, m, "k"); got != "new" {
			t.Errorf("after the tombstone: got %s", got)
		}
	})
}

func TestTombstonesSurviveAFloodThatEvictsEverythingElse(t *testing.T) {
	m := newMemory(t, 100)
	for i := range 1000 {
		bury(t, m, fmt.Sprint("dead", i), time.Hour)
	}
	for i := range 100_000 {
		fill(t, m, fmt.Sprint("k", i), "v", time.Hour)
	}
	for i := range 1000 {
		if got := get(t, m, fmt.Sprint("dead", i)); got != "(buried)" {
			t.Fatalf("tombstone %d: got %s", i, got)
		}
	}
	kept := 0
	for i := range 100_000 {
		if get(t, m, fmt.Sprint("k", i)) == "v" {
			kept++
		}
	}
	if kept == 0 || kept > 200 { // eviction runs a little behind
		t.Errorf("%d of 100000 entries kept in a cache for 100", kept)
	}
}

func TestNoFillWinsARaceAgainstBury(t *testing.T) {
	m := newMemory(t, 1000)
	for i := range 2000 {
		key := fmt.Sprint(i)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { fill(t, m, key, "v", time.Hour) })
		}
		wg.Go(func() { bury(t, m, key, time.Hour) })
		wg.Wait()
		if got := get(t, m, key); got != "(buried)" {
			t.Fatalf("round %d: got %s", i, got)
		}
	}
}

func fill(t *testing.T, m *cache.Memory, key, value string, life time.Duration) {
	t.Helper()
	if err := m.Fill(context.Background(), key, nil, []byte(value), life); err != nil {
		t.Error(err)
	}
}

func bury(t *testing.T, m *cache.Memory, key string, life time.Duration) {
	t.Helper()
	if err := m.Bury(context.Background(), life, key); err != nil {
		t.Error(err)
	}
}
