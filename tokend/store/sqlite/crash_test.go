package sqlite_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func TestWhatWasAcknowledgedSurvivesKill(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	minted, revoked := map[string]bool{}, map[string]bool{}
	for round := range 10 {
		before := len(minted)
		c := startChild(t, "work", path)
		moment := rand.N(120 * time.Millisecond)
		for first := true; ; {
			line, whole := c.line()
			if !whole {
				break
			}
			id, isMinted := strings.CutPrefix(line, "minted ")
			if isMinted {
				minted[id] = true
			} else if id, isRevoked := strings.CutPrefix(line, "revoked "); isRevoked {
				revoked[id] = true
			}
			if isMinted && first {
				first = false
				time.AfterFunc(moment, c.kill)
			}
		}
		_ = c.cmd.Wait() // killed
		if len(minted) == before {
			t.Fatalf("round %d: nothing was acknowledged", round)
		}
		wantAll(t, path, minted, revoked)
		wantConsistent(t, path)
	}
	t.Logf("%d mints and %d revocations were acknowledged", len(minted), len(revoked))
}

// wantAll fails if a token is missing or not revoked that should be, or if the
// audit trail does not tell of all tokens.
func wantAll(t *testing.T, path string, minted, revoked map[string]bool) {
	t.Helper()
	s := open(t, path)
	defer closeStore(t, s)
	states, changes := map[string]token.State{}, 0
	for page := (token.Page{Limit: 1000}); ; {
		records, err := s.Records(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			states[r.ID] = r.StateAt(now, token.Forever)
			changes++
			if !r.Revoked.IsZero() {
				changes++
			}
		}
		if len(records) < page.Limit {
			break
		}
		page.After = records[page.Limit-1].ID
	}
	for id := range minted {
		if states[id] == "" {
			t.Errorf("the acknowledged token %s is lost", id)
		}
	}
	for id := range revoked {
		if states[id] != token.Revoked {
			t.Errorf("the acknowledged revocation of %s is lost: it is %q", id, states[id])
		}
	}
	if events, err := s.Events(t.Context(), token.EventPage{Limit: 1_000_000}); len(events) != changes || err != nil {
		t.Errorf("%d events tell of %d changes (%v)", len(events), changes, err)
	}
}

// wantConsistent fails if SQLite finds the file damaged.
func wantConsistent(t *testing.T, path string) {
	t.Helper()
	db := shell(t, path)
	var verdict string
	if err := db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); verdict != "ok" || err != nil {
		t.Fatalf("integrity check: %s (%v)", verdict, err)
	}
	var strays int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM pragma_foreign_key_check`).Scan(&strays); strays != 0 || err != nil {
		t.Fatalf("foreign keys: %d strays (%v)", strays, err)
	}
	check(db.Close())
}

func TestChangeThatAKillInterruptedIsRolledBack(t *testing.T) {
	path, killed := newPath(t), newPath(t)
	conn, err := shell(t, path).Conn(t.Context())
	check(err)
	for _, statement := range []string{ // before there is a -wal, there is a -journal
		`PRAGMA cache_size = 1`,
		`BEGIN`,
		`CREATE TABLE half (made BLOB)`,
		`INSERT INTO half VALUES (randomblob(1000000))`,
	} {
		_, err := conn.ExecContext(t.Context(), statement)
		check(err)
	}
	for _, suffix := range []string{"", "-journal"} {
		content, err := os.ReadFile(path + suffix)
		check(err)
		check(os.WriteFile(killed+suffix, content, 0o600))
	}
	s := open(t, killed)
	wantRecord(t, s, mint(t, s))
}

func TestKillWhileTheDatabaseIsMadeLeavesOneThatOpens(t *testing.T) {
	t.Parallel()
	for range 10 {
		path := newPath(t)
		c := startChild(t, "work", path)
		if line, _ := c.line(); line != "started" {
			t.Fatalf("the child says %q", line)
		}
		time.AfterFunc(rand.N(20*time.Millisecond), c.kill)
		_ = c.cmd.Wait() // killed
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		wantRecord(t, s, mint(t, s))
		closeStore(t, s)
		wantConsistent(t, path)
	}
}

// crashes are what a daemon may find when it starts: whether a -wal was left with
// changes in it, whether it stands there bare, without its -shm, and whether the
// path is a link.
var crashes = []struct{ unclean, bare, linked bool }{{}, {bare: true}, {unclean: true}, {unclean: true, bare: true}, {unclean: true, linked: true}}

// leaveWAL leaves a -wal with changes in it, as a killed daemon does.
func leaveWAL(t *testing.T, path string) {
	t.Helper()
	c := startChild(t, "work", path)
	for range 10 {
		c.line()
	}
	c.kill()
	_ = c.cmd.Wait() // killed
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("the -wal holds nothing (%v)", err)
	}
}

// spelled is the path, or a link to it in another folder.
func spelled(t *testing.T, path string, linked bool) string {
	t.Helper()
	if !linked {
		return path
	}
	link := filepath.Join(t.TempDir(), "link.db")
	check(os.Symlink(path, link))
	return link
}

// wantAllKept fails if the record is not kept, or what was left in the -wal isn't.
func wantAllKept(t *testing.T, s *sqlite.Store, kept token.Record, unclean bool) {
	t.Helper()
	wantRecord(t, s, kept)
	if records, err := s.Records(t.Context(), token.Page{Limit: 1000}); err != nil || unclean != (len(records) > 1) {
		t.Errorf("got %d records and error %v", len(records), err)
	}
}
