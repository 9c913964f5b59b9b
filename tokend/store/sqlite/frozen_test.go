package sqlite_test

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"tokend/tokend/token"
)

// TestNoReadHasToWriteAfterAChange: in the -shm, which is mapped into memory, SQLite
// notes what is read. While the file system is frozen for a snapshot, who writes
// there waits, and takes one of Go's processors along.
func TestNoReadHasToWriteAfterAChange(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	for range 3 {
		kept := mint(t, s)
		before, err := os.ReadFile(path + "-shm")
		check(err)
		wantRecord(t, s, kept)
		if _, err := s.Users(t.Context(), token.UserPage{Limit: 1000}, now, token.Forever); err != nil {
			t.Fatal(err)
		}
		if after, err := os.ReadFile(path + "-shm"); err != nil || !bytes.Equal(before, after) {
			t.Errorf("a look-up wrote to the -shm (%v)", err)
		}
	}
}

// TestChangeTouchesTheFileFirst, by a system call that waits while the file system
// is frozen. The commit itself writes to the -wal and the -shm alone.
func TestChangeTouchesTheFileFirst(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	mint(t, s)
	touched := time.Time{}
	check(s.AtCommit(t.Context(), func() {
		info, err := os.Stat(path)
		check(err)
		touched = info.ModTime()
	}))
	old := time.Now().Add(-time.Hour)
	check(os.Chtimes(path, old, old))
	mint(t, s)
	if !touched.After(old.Add(time.Minute)) {
		t.Errorf("at the commit the file was as it was at %v", touched)
	}
}

// TestWhatBecameOfAChangeIsKnown where its commit ends soon after its time is up.
func TestWhatBecameOfAChangeIsKnown(t *testing.T) {
	s := open(t, newPath(t))
	var err error
	for range 20 { // the disk may be slow
		ctx, cancel := context.WithCancel(t.Context())
		check(s.AtCommit(t.Context(), func() {
			cancel()
			time.Sleep(10 * time.Millisecond)
		}))
		if err = s.Mint(ctx, newRecord(), token.Quota{}, created); err == nil {
			return
		}
	}
	t.Errorf("got error %v for a change that was made", err)
}
