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
