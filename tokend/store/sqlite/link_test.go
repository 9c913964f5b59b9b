package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"

	"tokend/tokend/token"
)

// TestWALBesideALinkIsNotForgotten: the file was moved to another disk after a kill, or
// under a running daemon, and a link left in its place, which may be the second one.
func TestWALBesideALinkIsNotForgotten(t *testing.T) {
	for _, linked := range []bool{false, true} {
		path := newPath(t)
		leaveWAL(t, path)
		there, named := filepath.Join(t.TempDir(), "there"), path
		if linked {
			named = filepath.Join(t.TempDir(), "named")
			check(os.Symlink(path, named))
		}
		check(os.Rename(path, there))
		check(os.Symlink(there, path))
		wantSentence(t, openFails(t, named), path+"-wal has the last changes", "move it to "+there+"-wal")
		dated := path + "-wal-20261128T193712Z"
		check(os.Rename(path+"-wal", dated))
		wantSentence(t, openFails(t, named), "its last changes are in "+dated)
		check(os.Rename(dated, there+"-wal"))
		s := open(t, named)
		if records, err := s.Records(t.Context(), token.Page{Limit: 10}); err != nil || len(records) == 0 {
			t.Errorf("%d tokens, %v", len(records), err)
		}
		closeStore(t, s)
		wantConsistent(t, there)
	}
}

// TestLinkThatLeadsElsewhereTakesNoChanges: to a folder, or to the file by way of another.
func TestLinkThatLeadsElsewhereTakesNoChanges(t *testing.T) {
	for _, file := range []string{"", "tokend.db"} {
		folder := t.TempDir()
		for _, name := range []string{"one", "two"} {
			closeStore(t, open(t, filepath.Join(folder, name, "tokend.db")))
		}
		link, named := filepath.Join(folder, "link"), filepath.Join(folder, "named")
		check(os.Symlink(filepath.Join("one", file), link))
		check(os.Symlink("link", named))
		if file == "" {
			named = filepath.Join(named, "tokend.db")
		}
		s := open(t, named)
		kept := mint(t, s)
		check(os.Remove(link))
		check(os.Symlink(filepath.Join("two", file), link))
		wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "was moved or replaced")
		wantSentence(t, s.Ping(t.Context()), "was moved or replaced")
		wantRecord(t, s, kept)
	}
}
