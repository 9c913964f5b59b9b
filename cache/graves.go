package cache

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// graves are the tombstones that this process knows of.
type graves struct {
	mu    sync.RWMutex
	until map[string]time.Time // by name
	open  map[string]struct{}  // those of them that are not in the shared cache yet
}

func newGraves() *graves {
	return &graves{until: map[string]time.Time{}, open: map[string]struct{}{}}
}

// has tells whether a tombstone is there.
func (g *graves) has(name string) bool { return g.left(name) > 0 }

// left is how long the tombstone is to stand.
func (g *graves) left(name string) time.Duration {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if len(g.until) == 0 {
		return 0
	}
	until, ok := g.until[name]
	if !ok {
		return 0
	}
	return time.Until(until)
}

// dig puts tombstones up, which are not in the shared cache yet.
func (g *graves) dig(names []string, life time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range names {
		until := time.Now().Add(life)
		if until.After(g.until[name]) {
			g.until[name] = until
		}
		g.open[name] = struct{}{}
	}
}

// written notes that they are in the shared cache.
func (g *graves) written(names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range names {
		delete(g.open, name)
	}
}

// all returns the names of all, none of which is taken for written any more.
func (g *graves) all() []string {
	g.sweep()
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range g.until {
		g.open[name] = struct{}{}
	}
	return slices.Collect(maps.Keys(g.open))
}

// unwritten returns the names of those that are not in the shared cache yet.
func (g *graves) unwritten() []string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return slices.Collect(maps.Keys(g.open))
}

// sweep removes those whose time is over.
func (g *graves) sweep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(g.until, func(name string, until time.Time) bool {
		over := !now.Before(until)
		if over {
			delete(g.open, name)
		}
		return over
	})
}

// pending is how many are not in the shared cache yet.
func (g *graves) pending() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.open)
}
