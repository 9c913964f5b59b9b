package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/store"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func openSource(t *testing.T, path string) *sqlite.Source {
	t.Helper()
	s, err := sqlite.OpenSource(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(s.Close()) })
	return s
}

// refusal is why the database cannot be read.
func refusal(t *testing.T, path string) error {
	t.Helper()
	s, err := sqlite.OpenSource(t.Context(), path)
	if err == nil {
		check(s.Close())
		t.Fatalf("%s was opened", path)
	}
	return err
}

// told is all that the source tells.
func told(t *testing.T, s *sqlite.Source) (users []token.User, records []token.Record, events []token.Event) {
	t.Helper()
	more := int64(0)
	for a, err := range s.Accounts(t.Context()) {
		check(err)
		if want := (token.Account{Name: "alice", Issuer: "https://id.example.org", Subject: "1", Created: now}); a != want {
			t.Errorf("it tells of the account %+v", a)
		}
		more++
	}
	for u, err := range s.Uses(t.Context()) {
		check(err)
		if u.At != now || !u.API {
			t.Errorf("it tells of the use %+v", u)
		}
		more++
	}
	for u, err := range s.Users(t.Context()) {
		check(err)
		users = append(users, u)
	}
	for r, err := range s.Records(t.Context()) {
		check(err)
		records = append(records, r)
	}
	for e, err := range s.Events(t.Context()) {
		check(err)
		events = append(events, e)
	}
	if count, err := s.Rows(t.Context()); err != nil || count != int64(len(users)+len(records)+len(events))+more {
		t.Errorf("it counts %d rows, %v", count, err)
	}
	return users, records, events
}

// content is what is in the folder of the database, by name.
func content(t *testing.T, path string) map[string]string {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	check(err)
	all := map[string]string{}
	for _, file := range files {
		info, err := file.Info()
		check(err)
		text, err := os.ReadFile(filepath.Join(filepath.Dir(path), file.Name()))
		if !file.IsDir() {
			check(err)
		}
		all[file.Name()] = info.Mode().String() + info.ModTime().String() + string(text)
	}
	return all
}

func TestSourceTellsAllInOrder(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	var want []token.Record
	for i, owner := range []string{"bob", "alice", "Zoe", "alice"} {
		r := newRecord()
		r.Owner = owner
		if i > 1 {
			r.Expires = now.Add(time.Duration(i-3) * time.Hour)
		}
		check(s.Mint(t.Context(), r, token.Quota{}, created))
		want = append(want, r)
	}
	for _, scheme := range []token.Scheme{token.Knox4, token.Knox5} { // imported ones
		r := newRecord()
		r.Scheme = scheme
		_, err := s.Adopt(t.Context(), []token.Record{r}, token.Event{At: now, Action: token.TokenImported})
		check(err)
		want = append(want, r)
	}
	_, err := s.Revoke(t.Context(), token.Selection{ID: want[0].ID}, now.Add(time.Microsecond), revoked)
	check(err)
	want[0].Revoked = now.Add(time.Microsecond)
	_, _, err = s.SetDisabled(t.Context(), "bob", true, now, token.Event{At: now, Action: token.UserDisabled})
	check(err)
	_, err = s.Bind(t.Context(), token.Account{Name: "alice", Issuer: "https://id.example.org", Subject: "1", Created: now}, token.Event{At: now, Action: token.UserBound})
	check(err)
	check(s.NoteUses(t.Context(), []token.Use{{Token: want[0].ID, At: now, API: true}}))
	trail, err := s.Events(t.Context(), token.EventPage{Limit: 100})
	check(err)
	closeStore(t, s)

	users, records, events := told(t, openSource(t, path))
	slices.SortFunc(want, func(a, b token.Record) int { return strings.Compare(a.ID, b.ID) })
	slices.Reverse(trail)
	if diff := cmp.Diff([]token.User{{Name: "Zoe"}, {Name: "alice"}, {Name: "bob", Disabled: now}}, users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, records); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(trail, events); diff != "" || len(events) != 9 {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestOfADamagedWALNothingIsRead: what SQLite reads of it is the beginning, without a word.
func TestOfADamagedWALNothingIsRead(t *testing.T) {
	const header, frame = 32, 24 + 4096
	flip := func(at func(size int) int) func([]byte) []byte {
		return func(wal []byte) []byte {
			wal[at(len(wal))] ^= 1
			return wal
		}
	}
	fine := func(wal []byte) []byte { return wal }
	const some = 10 // of the last frames, which may be of a change that was broken off
	cut := func(wal []byte) []byte { return wal[:len(wal)-some*frame] }
	for what, c := range map[string]struct {
		change   func(wal []byte) []byte
		with     bool // the -shm, too, is there
		readable bool
	}{
		"whole":                     {fine, true, true},
		"whole, bare":               {fine, false, true},
		"cut":                       {cut, true, false},
		"cut, bare":                 {cut, false, true}, // as after a change that was broken off
		"cut within a frame":        {func(wal []byte) []byte { return wal[:len(wal)-some*frame-1] }, true, false},
		"a bit in a late page":      {flip(func(size int) int { return size - some*frame - 1 }), false, false},
		"a bit in a page":           {flip(func(int) int { return header + frame + 1000 }), false, false},
		"a bit in a frame's salt":   {flip(func(int) int { return header + frame + 10 }), false, false},
		"a bit in the header's sum": {flip(func(int) int { return 31 }), false, false},
		"a bit in its salt":         {flip(func(int) int { return 17 }), true, false},
		"a bit in its salt, bare":   {flip(func(int) int { return 17 }), false, false},
		"a bit in its page size":    {flip(func(int) int { return 10 }), false, false},
		"zeros":                     {func(wal []byte) []byte { return make([]byte, len(wal)) }, false, false},
		"cut to the header":         {func(wal []byte) []byte { return wal[:header] }, true, false},
		"cut to nothing":            {func([]byte) []byte { return nil }, true, false},
		"gone":                      {fine, true, false},
		"another one": {func(wal []byte) []byte {
			path := newPath(t)
			closeStore(t, open(t, path))
			for {
				leaveWAL(t, path)
				other, err := os.ReadFile(path + "-wal")
				check(err)
				if len(other) >= len(wal) {
					return other
				}
			}
		}, true, false},
		"cut to nothing, bare": {func([]byte) []byte { return nil }, false, true},
		"a change that was broken off": {func(wal []byte) []byte {
			wal = append(wal, wal[len(wal)-frame:]...)
			copy(wal[len(wal)-frame+4:], []byte{0, 0, 0, 0}) // it ends nothing
			return wal
		}, true, true},
	} {
		t.Run(what, func(t *testing.T) {
			path := newPath(t)
			closeStore(t, open(t, path))
			leaveWAL(t, path)
			wal, err := os.ReadFile(path + "-wal")
			check(err)
			check(os.WriteFile(path+"-wal", c.change(wal), 0o600))
			if what == "gone" {
				check(os.Remove(path + "-wal"))
			}
			if !c.with {
				check(os.Remove(path + "-shm"))
			}
			if c.readable {
				check(openSource(t, path).Close())
				return
			}
			words := []string{"changes may be missing", "keep a copy of " + path, "then start the daemon over this database, look with tokend audit"}
			if strings.HasPrefix(what, "another") {
				words = []string{"-wal is another one than " + path + "-shm tells of", "put the right one back"}
			}
			wantSentence(t, refusal(t, path), append(words, "restore all files of a backup")...)
		})
	}
}

// TestSourceIsNotChanged, with what a killed daemon has left or without.
func TestSourceIsNotChanged(t *testing.T) {
	for _, c := range crashes {
		path := newPath(t)
		s := open(t, path)
		kept := mint(t, s)
		closeStore(t, s)
		check(os.Chmod(path, 0o600))
		if c.unclean {
			leaveWAL(t, path)
			check(os.Chmod(path+"-wal", 0o640))
		}
		if c.bare {
			_ = os.Remove(path + "-shm") // it may not be there
		}
		before := content(t, path)
		source := openSource(t, spelled(t, path, c.linked))
		_, records, events := told(t, source)
		if c.unclean != (len(records) > 1) || len(events) < len(records) || !slices.ContainsFunc(records, func(r token.Record) bool { return r.ID == kept.ID }) {
			t.Errorf("%+v: there are %d tokens and %d events", c, len(records), len(events))
		}
		check(source.Close())
		if diff := cmp.Diff(before, content(t, path)); diff != "" {
			t.Errorf("%+v: the files changed", c)
		}
		s = open(t, path) // which may write again
		after, err := s.Records(t.Context(), token.Page{Limit: 100_000})
		if err != nil || len(after) != len(records) {
			t.Errorf("%+v: the daemon has %d tokens (%v), the source told of %d", c, len(after), err, len(records))
		}
	}
}

// TestWALWithNothingWholeStays, though SQLite would remove it.
func TestWALWithNothingWholeStays(t *testing.T) {
	path := newPath(t)
	closeStore(t, open(t, path))
	leaveWAL(t, path)
	wal, err := os.ReadFile(path + "-wal")
	check(err)
	const header, frame = 32, 24 + 4096
	copy(wal[header+4:], []byte{0, 0, 0, 0}) // a change that was broken off
	check(errors.Join(os.WriteFile(path+"-wal", wal[:header+frame], 0o600), os.Remove(path+"-shm")))
	before := content(t, path)
	source := openSource(t, path)
	told(t, source)
	check(source.Close())
	if diff := cmp.Diff(before, content(t, path)); diff != "" {
		t.Error("the files changed")
	}
}

func TestSourceKeepsOthersOut(t *testing.T) {
	path := newPath(t)
	daemon := open(t, path)
	mint(t, daemon)
	err := refusal(t, path)
	wantSentence(t, err, "another tokend uses it (pid ", "stop it first, because what it changed from now on would be lost")
	if !errors.Is(err, store.ErrLocked) {
		t.Errorf("it is %v", err)
	}
	closeStore(t, daemon)

	source := openSource(t, path)
	wantSentence(t, openFails(t, path), "another tokend uses it")
	wantSentence(t, refusal(t, path), "another tokend uses it")
	if _, err := shell(t, path).ExecContext(t.Context(), `UPDATE users SET disabled = 1`); err == nil {
		t.Error("another program can change it meanwhile")
	}
	check(source.Close())
	check(source.Close())
	open(t, path)
}

// TestSourceThatAnotherProgramHasOpenIsRefused: it may change it, or have changes in the -wal.
func TestSourceThatAnotherProgramHasOpenIsRefused(t *testing.T) {
	path := newPath(t)
	closeStore(t, open(t, path))
	c := startChild(t, "shell", path)
	if line, _ := c.line(); line != "open" {
		t.Fatalf("the child says %q", line)
	}
	wantSentence(t, refusal(t, path), "another program, a backup say, has it open; wait for it or end it")
}

func TestUnfitSourceIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(path string)
		words []string
	}{
		"missing":     {func(path string) { check(os.Remove(path)) }, []string{"it is not there: name the database that the daemon had"}},
		"a folder":    {func(path string) { check(errors.Join(os.Remove(path), os.Mkdir(path, 0o700))) }, []string{"it is a directory: name the file in it"}},
		"no database": {func(path string) { check(os.WriteFile(path, make([]byte, 5000), 0o600)) }, []string{"is not an SQLite database; name another file"}},
		"empty":       {func(path string) { check(os.Truncate(path, 0)) }, []string{"its schema is of version 0", "start this one's daemon over it"}},
		"another's":   {func(path string) { run(t, shell(t, path), `PRAGMA application_id = 7`) }, []string{"but not one of tokend's: name another file"}},
		"newer": {func(path string) {
			run(t, shell(t, path), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)`)
		}, []string{"has schema version 4711, this tokend knows", "run the newer tokend"}},
		"older":      {func(path string) { run(t, shell(t, path), `DELETE FROM goose_db_version WHERE version_id > 0`) }, []string{"its schema is of version 0, and this tokend reads 3", "which upgrades it"}},
		"broken off": {func(path string) { check(os.WriteFile(path+"-journal", make([]byte, 600), 0o600)) }, []string{"-journal has a change that was broken off", "start the daemon over this database"}},
		"nobody's":   {func(path string) { run(t, shell(t, path), `PRAGMA foreign_keys = 0; DELETE FROM users`) }, []string{`is of "alice", who is not among the users`}},
		"gone": {func(path string) {
			check(errors.Join(os.WriteFile(path+"-wal", make([]byte, 5000), 0o600), os.Remove(path)))
		}, []string{"it is missing or empty, and", "put that back"}},
		"changes left": {func(path string) { check(os.WriteFile(path+"-wal-20260102T030405Z", nil, 0o600)) }, []string{"its last changes are in"}},
	} {
		path := newPath(t)
		s := open(t, path)
		mint(t, s)
		closeStore(t, s)
		c.spoil(path)
		before := content(t, path)
		err := refusal(t, path)
		t.Logf("%s: %v", what, err)
		wantSentence(t, err, c.words...)
		if diff := cmp.Diff(before, content(t, path)); diff != "" {
			t.Errorf("%s: the files changed", what)
		}
	}
}

// TestTokenMissingFromTheIndexIsAnError: it would be lost in silence.
func TestTokenMissingFromTheIndexIsAnError(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	mint(t, s)
	closeStore(t, s)
	db := shell(t, path)
	db.SetMaxOpenConns(1)
	// Its root page becomes that of an index of which no token is a part.
	run(t, db, `CREATE UNIQUE INDEX none ON tokens (id) WHERE id = ''`)
	run(t, db, `PRAGMA writable_schema = 1`)
	run(t, db, `UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'none') WHERE name = 'sqlite_autoindex_tokens_1'`)
	run(t, db, `DELETE FROM sqlite_schema WHERE name = 'none'`)
	check(db.Close())
	var last error
	for _, err := range openSource(t, path).Records(t.Context()) {
		last = err
	}
	wantSentence(t, last, "is damaged: of its 1 tokens, 0 are found by their IDs; restore a backup")
}

// TestATimeThatWouldStandForNoneIsAnError: the token would be good again, here and where it
// is moved to.
func TestATimeThatWouldStandForNoneIsAnError(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	r := mint(t, s)
	run(t, shell(t, path), `UPDATE tokens SET revoked = -62135596800000000`)
	_, err := s.Lookup(t.Context(), r.Digest)
	wantSentence(t, err, "a time is kept as -62135596800000000, which would stand for none")
	closeStore(t, s)
	var last error
	for _, err := range openSource(t, path).Records(t.Context()) {
		last = err
	}
	wantSentence(t, last, "which would stand for none")
}
