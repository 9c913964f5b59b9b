// Package cache keeps bytes that expire, so that a login needs no look-up in
// the store: in this process, or in a Redis that several daemons share. It knows
// nothing of tokens: what the bytes say, and how long they may be believed, is
// verify's matter.
//
// Its one rule is the tombstone. Who takes rights away buries the key, and
// until the tombstone expires no fill takes its place: a look-up that was under
// way when the right ended cannot bring it back. A Redis may lose tombstones; so
// there a fill takes the place of nothing but what was seen before the look-up.
package cache

import "time"

// Entry is what a cache holds under a key. The zero Entry is a miss.
type Entry struct {
	Value  []byte // what Fill stored; not to be changed; nil: nothing is there
	Buried bool   // a tombstone is there: ask the store, and don't fill
	// Seen is for the Fill of what is looked up next, and differs before and after a
	// tombstone, even one that was lost. Nil in a cache that loses none.
	Seen []byte
	// Since is from when on all tombstones that are put up are there. Of those before, by
	// others, some may be missing. Zero: none is.
	Since time.Time
}
