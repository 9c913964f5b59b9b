package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory is a cache in this process. Entries that are least likely to be used
// again make room for new ones; a tombstone makes room for nothing until it
// expires.
type Memory struct {
	entries *otter.Cache[string, memoryEntry]
}

type memoryEntry struct {
	Entry
	life time.Duration
}

// NewMemory returns an empty cache for at most so many entries, tombstones not
// counted.
func NewMemory(entries int) (*Memory, error) {
	c, err := otter.New(&otter.Options[string, memoryEntry]{
		MaximumWeight: uint64(max(entries, 0)),
		Weigher:       weigh,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, memoryEntry]) time.Duration {
			return e.Value.life
		}),
		Clock: steadyClock{begin: time.Now()},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d entries: %w", entries, err)
	}
	return &Memory{c}, nil
}

// weigh makes tombstones weightless: what has no weight is never evicted.
func weigh(_ string, e memoryEntry) uint32 {
	if e.Buried {
		return 0
	}
	return 1
}

// Get returns what is kept under the key. It never fails.
func (m *Memory) Get(_ context.Context, key string) (Entry, error) {
	e, _ := m.entries.GetIfPresent(key)
	return e.Entry, nil
}

// Fill keeps the value for the given life, unless a tombstone is there. It
// never fails.
func (m *Memory) Fill(_ context.Context, key string, _, value []byte, life time.Duration) error {
	filled := memoryEntry{Entry{Value: value}, life}
	m.entries.Compute(key, func(old memoryEntry, found bool) (memoryEntry, otter.ComputeOp) {
		if found && old.Buried {
			return old, otter.CancelOp
		}
		return filled, otter.WriteOp
	})
	return nil
}

// Bury puts tombstones in the keys' places. It never fails.
func (m *Memory) Bury(_ context.Context, life time.Duration, keys ...string) error {
	for _, key := range keys {
		m.entries.Set(key, memoryEntry{Entry{Buried: true}, life})
	}
	return nil
}

// steadyClock counts the time since begin, so that setting the system's clock
// neither ends a tombstone early nor keeps an entry alive.
type steadyClock struct{ begin time.Time }

func (c steadyClock) NowNano() int64 { return int64(time.Since(c.begin)) }

// Tick returns no channel: what has expired is cleared as the cache is used, not
// by a goroutine of its own.
func (c steadyClock) Tick(time.Duration) <-chan time.Time { return nil }
