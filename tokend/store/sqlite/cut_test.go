package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tokend/tokend/token"
)

// TestCutWALTakesNoChanges: somebody wants room on the disk. What was in it is lost,
// and what came behind the gap would be, too. The end of the daemon makes it no worse.
func TestCutWALTakesNoChanges(t *testing.T) {
	for name, cut := range map[string]func(size int64) int64{
		"all": func(int64) int64 { return 0 }, "half": func(size int64) int64 { return size / 2 }, "a byte": func(size int64) int64 { return size - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			s := open(t, path)
			kept := mint(t, s)
			closeStore(t, s) // folds it into the file
			s = open(t, path)
			for i := range 20 {
				r := newRecord()
				r.Owner = fmt.Sprintf("user%d", i)
				check(s.Mint(t.Context(), r, token.Quota{}, created))
			}
			mint(t, s)
			file, err := os.ReadFile(path)
			check(err)
			whole, err := os.Stat(path + "-wal")
			check(err)
			left := cut(whole.Size())
			check(os.Truncate(path+"-wal", left))
			for range 2 {
				err := s.Mint(t.Context(), newRecord(), token.Quota{}, created)
				wantUnwritable(t, err, path+"-wal was cut short", "look-ups may fail", "start tokend again")
				if strings.Contains(err.Error(), "look-ups go on") {
					t.Errorf("it says that look-ups go on: %v", err)
				}
				wantSentence(t, s.Ping(t.Context()), "-wal", "cut")
			}
			wantSentence(t, s.Close(), "-wal was cut short", "left as it is")
			if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() != left {
				t.Errorf("the -wal was changed (%v)", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, file) {
				t.Errorf("the file was changed (%v)", err)
			}
			path = filepath.Join(copied(t, filepath.Dir(path)), filepath.Base(path))
			s = open(t, path)
			wantRecord(t, s, kept)
			mint(t, s)
			closeStore(t, s)
			wantConsistent(t, path)
		})
	}
}

// TestWALThatIsCutWithinAChange: what is written behind the gap is not said to be
// made, and the end of the daemon does not fold it into the file.
func TestWALThatIsCutWithinAChange(t *testing.T) {
	for _, parts := range []int64{0, 1} { // of two, that are left
		path := newPath(t)
		s := open(t, path)
		kept := mint(t, s)
		closeStore(t, s)
		s = open(t, path)
		for range 20 {
			mint(t, s)
		}
		var once sync.Once
		check(s.AtCommit(t.Context(), func() {
			once.Do(func() {
				whole, err := os.Stat(path + "-wal")
				check(err)
				check(os.Truncate(path+"-wal", whole.Size()*parts/2))
			})
		}))
		for range 3 {
			wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "-wal was cut short")
		}
		wantSentence(t, s.Close(), "-wal was cut short", "left as it is")
		path = filepath.Join(copied(t, filepath.Dir(path)), filepath.Base(path))
		s = open(t, path)
		wantRecord(t, s, kept)
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// TestCutWALTakesNoLargeChange, of which SQLite writes a part before its end, behind the
// gap; nor is the largest page there is mistaken for the smallest.
func TestCutWALTakesNoLargeChange(t *testing.T) {
	path := newPath(t)
	closeStore(t, open(t, path))
	db := shell(t, path)
	for _, statement := range []string{
		`PRAGMA journal_mode = DELETE`, `PRAGMA page_size = 65536`, `VACUUM`, `INSERT INTO users (name) VALUES ('alice')`,
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
		 INSERT INTO tokens (id, digest, owner, hint, label, created) SELECT 'id' || i, printf('%0128x', i), 'alice', '', '', i FROM n`,
	} {
		run(t, db, statement)
	}
	check(db.Close())
	s := open(t, path)
	lost := mint(t, s)
	whole, err := os.Stat(path + "-wal")
	check(err)
	left := whole.Size() / 2
	check(os.Truncate(path+"-wal", left))
	for range 2 {
		_, err := s.Revoke(t.Context(), token.Selection{Owner: "alice"}, now, revoked)
		wantUnwritable(t, err, "-wal was cut short")
		if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() != left {
			t.Errorf("the -wal was written to (%v)", err)
		}
	}
	check(os.Truncate(path+"-wal", 2*whole.Size())) // a change under way has written behind the gap
	wantUnwritable(t, s.Mint(t.Context(), newRecord(), token.Quota{}, created), "-wal was cut short")
	check(os.Truncate(path+"-wal", 0))
	_, err = s.Lookup(t.Context(), lost.Digest)
	wantSentence(t, err, "-wal, is shorter than it was: was it cut?")
	wantSentence(t, s.Close(), "-wal was cut short", "left as it is")
}

// TestAnotherProgramMayFoldTheWAL, as sqlite3 does when it is asked to: then it is
// short, and whole.
func TestAnotherProgramMayFoldTheWAL(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	folding := shell(t, path)
	ctx, end := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		for ctx.Err() == nil {
			if err := s.InPlace(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		mint(t, s)
		run(t, folding, `PRAGMA wal_checkpoint(TRUNCATE)`)
	}
	end()
	looking.Wait()
}
