package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// rows is all that another store may keep.
type rows struct {
	users    []token.User
	records  []token.Record
	accounts []token.Account
	uses     []token.Use
	events   []token.Event
	before   func(record int) error // a record is told; nil: nothing happens
}

func (r rows) Users(context.Context) iter.Seq2[token.User, error]       { return each(r.users, nil) }
func (r rows) Events(context.Context) iter.Seq2[token.Event, error]     { return each(r.events, nil) }
func (r rows) Uses(context.Context) iter.Seq2[token.Use, error]         { return each(r.uses, nil) }
func (r rows) Accounts(context.Context) iter.Seq2[token.Account, error] { return each(r.accounts, nil) }
func (r rows) Records(context.Context) iter.Seq2[token.Record, error] {
	return each(r.records, r.before)
}

func each[T any](all []T, before func(int) error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for i, one := range all {
			var err error
			if before != nil {
				err = before(i)
			}
			if !yield(one, err) || err != nil {
				return
			}
		}
	}
}

// someRows are one of each kind, in their order.
func someRows() rows {
	r := rows{users: []token.User{{Name: "Zoe"}, {Name: "alice"}, {Name: "bob", Disabled: created}}}
	for i, label := range []string{"", "laptop", "Ä€🔑'%\\\t", strings.Repeat("x", token.MaxLabel)} {
		record := newRecord()
		record.ID, record.Owner, record.Label = fmt.Sprint("t", i), r.users[i%3].Name, label
		record.Created = created.Add(time.Duration(i) * time.Microsecond)
		record.Scheme = []token.Scheme{token.Own, token.Knox4, token.Knox5, token.Own}[i]
		switch i {
		case 1:
			record.Expires = created.Add(-time.Microsecond)
		case 2:
			record.Revoked = created.Add(time.Hour)
		case 3:
			record.Expires = time.Date(9999, time.December, 31, 23, 59, 59, 999_999_000, time.UTC)
		}
		r.records = append(r.records, record)
	}
	r.records[2].API = true
	r.accounts = []token.Account{{Name: "alice", Issuer: "https://id.example.org", Subject: "Ä", Created: created}}
	r.uses = []token.Use{{Token: "t0", At: created}, {Token: "t1", At: created.Add(time.Hour), API: true}}
	for i, action := range []token.Action{token.TokenCreated, token.TokenRevoked, token.UserDisabled} {
		r.events = append(r.events, token.Event{
			Number: int64(3 * (i + 1)), At: created.Add(time.Duration(-i) * time.Second), // of a clock that was set back
			Actor: "uid=0(root)", Action: action, User: "alice", Token: fmt.Sprint("t", i), Detail: `label "Ä"`,
		})
	}
	return r
}

// TestImportWhoseCommitIsNotAnsweredMayBeMade, and that is said.
func TestImportWhoseCommitIsNotAnsweredMayBeMade(t *testing.T) {
	t.Parallel()
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	there := lost(t, proxy, false, "COMMIT")
	go func() {
		<-there
		proxy.Cut()
	}()
	rows := someRows()
	if _, err := s.Import(t.Context(), rows, nil); !errors.Is(err, token.ErrUnsure) {
		t.Errorf("got error %v", err)
	}
	if _, err := open(t, server.URL(database)).Lookup(t.Context(), rows.records[0].Digest); err != nil {
		t.Errorf("looked up: %v", err)
	}
}

func TestImportKeepsEverything(t *testing.T) {
	s := open(t, newDatabase(t, "current"))
	want := someRows()
	steps := map[postgres.Phase]int{}
	tally, err := s.Import(t.Context(), want, func(p postgres.Phase) { steps[p]++ })
	if err != nil || tally.Users != 3 || tally.Tokens != 4 || tally.Events != 3 {
		t.Fatalf("got %+v, %v", tally, err)
	}
	if steps[postgres.Copying] != 13 || steps[postgres.Checking] != 13 {
		t.Errorf("it tells of %v", steps)
	}
	for _, r := range want.records {
		r.OwnerDisabled = r.Owner == "bob"
		got, err := s.Lookup(t.Context(), r.Digest)
		if diff := cmp.Diff(r, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	account, err := s.Account(t.Context(), "alice")
	if diff := cmp.Diff(want.accounts[0], account); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, u := range want.uses {
		r, err := s.Record(t.Context(), u.Token)
		if diff := cmp.Diff(u, token.Use{Token: r.ID, At: r.Used, API: r.UsedByAPI}); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	users, err := s.Users(t.Context(), token.UserPage{Limit: 1000}, created, token.Forever)
	for i := range users {
		users[i].Tokens = 0
	}
	if diff := cmp.Diff(want.users, users); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	mint(t, s)
	events, err := s.Events(t.Context(), token.EventPage{Limit: 10})
	slices.Reverse(events)
	if err != nil || len(events) != 4 || events[3].Number != 10 {
		t.Fatalf("got %v, %v, want 3 entries and then number 10", events, err)
	}
	if diff := cmp.Diff(want.events, events[:3]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestImportOfNothingLeavesAnEmptyDatabase(t *testing.T) {
	s := open(t, newDatabase(t, "current"))
	if _, err := s.Import(t.Context(), rows{}, nil); err != nil {
		t.Error(err)
	}
	wantEmpty(t, s)
}

// wantEmpty makes the first entry of the audit trail.
func wantEmpty(t *testing.T, s *postgres.Store) {
	t.Helper()
	users, err := s.Users(t.Context(), token.UserPage{Limit: 1000}, created, token.Forever)
	if err != nil || len(users) > 0 {
		t.Errorf("there are the users %v, %v", users, err)
	}
	mint(t, s)
	events, err := s.Events(t.Context(), token.EventPage{Limit: 10})
	if err != nil || len(events) != 1 || events[0].Number != 1 {
		t.Errorf("the first entry of the trail is not number 1: %v, %v", events, err)
	}
}

func TestImportNeedsAnEmptyDatabase(t *testing.T) {
	for what, insert := range map[string]string{
		"users":  `INSERT INTO users VALUES ('alice')`,
		"events": `INSERT INTO events (at, actor, action, "user", token, detail) VALUES (now(), '', '', '', '', '')`,
	} {
		url := newDatabase(t, "current")
		run(t.Context(), url, insert)
		_, err := open(t, url).Import(t.Context(), someRows(), nil)
		wantSentence(t, what, err, "it has users, tokens or an audit trail already", "name an empty database")
		_, err = postgres.Vacant(t.Context(), postgres.Config{URL: url})
		wantSentence(t, what, err, "it has users, tokens or an audit trail already")
	}
}

func TestOfTwoImportsOneWins(t *testing.T) {
	url := newDatabase(t, "current")
	first := someRows()
	first.before = func(record int) error {
		if record == 0 {
			_, err := open(t, url).Import(t.Context(), someRows(), nil)
			wantSentence(t, "the second", err, "another migration into it is under way: wait for its end")
		}
		return nil
	}
	s := open(t, url)
	if _, err := s.Import(t.Context(), first, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lookup(t.Context(), first.records[0].Digest); err != nil {
		t.Error(err)
	}
}

func TestDaemonThatWritesMeanwhileIsHeldUp(t *testing.T) {
	url := newDatabase(t, "current")
	daemon := open(t, url)
	all := someRows()
	all.before = func(record int) error {
		if record == 0 {
			if _, err := daemon.Lookup(t.Context(), all.records[0].Digest); !errors.Is(err, token.ErrNotFound) {
				t.Errorf("a look-up ends with %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			other := newRecord()
			other.Owner = "dave" // whom no lock but that of the table holds up
			if err := daemon.Mint(ctx, other, token.Quota{}, token.Event{At: created}); err == nil {
				t.Error("a token was made meanwhile")
			}
		}
		return nil
	}
	if tally, err := open(t, url).Import(t.Context(), all, nil); err != nil || tally.Tokens != 4 {
		t.Errorf("got %+v, %v", tally, err)
	}
}

func TestImportDoesNotWaitForeverForWhoWrites(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "current")
	writer := connect(t.Context(), url)
	defer func() { check(writer.Close(context.Background())) }()
	_, err := writer.Exec(t.Context(), `BEGIN; LOCK TABLE events IN ROW EXCLUSIVE MODE`)
	check(err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = open(t, url).Import(ctx, someRows(), nil)
	wantSentence(t, "held up", err, "others write to it and don't end: stop the daemons over it")
}

func TestInterruptedImportLeavesNothing(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, phase := range []postgres.Phase{postgres.Copying, postgres.Checking, ""} {
		s := open(t, newDatabase(t, "current"))
		ctx, cancel := context.WithCancel(t.Context())
		all, want, seen := someRows(), context.Canceled, 0
		if phase == "" {
			want = broken
			all.before = func(record int) error {
				if record == 2 {
					return broken
				}
				return nil
			}
		}
		_, err := s.Import(ctx, all, func(p postgres.Phase) {
			if seen++; p == phase && seen%10 == 9 { // the entries before are there
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", phase, err, want)
		}
		wantEmpty(t, s)
	}
}

// TestWhatArrivesOtherwiseIsNotKept: somebody has given the tables triggers.
func TestWhatArrivesOtherwiseIsNotKept(t *testing.T) {
	for body, want := range map[string]string{
		`NEW.label := upper(NEW.label); RETURN NEW`:                               "as many rows, but not the same",
		`NEW.created := NEW.created + interval '1 microsecond'; RETURN NEW`:       "as many rows, but not the same",
		`IF NEW.id = 't2' THEN RETURN NULL; END IF; RETURN NEW`:                   "3 users, 3 tokens and 3 audit entries of 3, 4 and 3",
		`INSERT INTO users VALUES ('mallory') ON CONFLICT DO NOTHING; RETURN NEW`: "4 users, 4 tokens and 3 audit entries of 3, 4 and 3",
	} {
		url := newDatabase(t, "current")
		s := open(t, url)
		run(t.Context(), url, `CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+`; END $$;
			CREATE TRIGGER meddle BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION meddle()`)
		_, err := s.Import(t.Context(), someRows(), nil)
		wantSentence(t, body, err, "what arrived is not what was sent", want)
		run(t.Context(), url, `DROP TRIGGER meddle ON tokens`)
		wantEmpty(t, s)
	}
}

func TestWhatPostgreSQLCannotKeepIsRefused(t *testing.T) {
	s := open(t, newDatabase(t, "current"))
	for want, spoil := range map[string]func(rows){
		`token "t1": its label has a NUL`:                       func(r rows) { r.records[1].Label = "a\x00b" },
		`token "t1": its label is not valid UTF-8`:              func(r rows) { r.records[1].Label = "\xff" },
		`token "t\xff": its ID is not valid UTF-8`:              func(r rows) { r.records[3].ID = "t\xff" },
		`token "t1": the record has no owner`:                   func(r rows) { r.records[1].Owner = "" },
		`user "bob\x00": its name has a NUL`:                    func(r rows) { r.users[2].Name = "bob\x00" },
		`audit entry 6: its detail is not valid UTF-8`:          func(r rows) { r.events[1].Detail = "\xc3" },
		`audit entry 3: its number has no place behind 6`:       func(r rows) { r.events[1].Number, r.events[2].Number = 6, 3 },
		`audit entry 0: its number has no place behind 0`:       func(r rows) { r.events[0].Number = 0 },
		`audit entry 9223372036854775807: its number`:           func(r rows) { r.events[2].Number = math.MaxInt64 },
		`audit entry 4611686018427387904: its number`:           func(r rows) { r.events[2].Number = math.MaxInt64/2 + 1 },
		`token "t1": its time 300000-01-01 00:00:00 +0000 UTC`:  func(r rows) { r.records[1].Expires = time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		`token "t1": its time -5000-01-01 00:00:00 +0000 UTC`:   func(r rows) { r.records[1].Revoked = time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC) },
		`audit entry 6: its time 2026-03-04 05:06:06.891234001`: func(r rows) { r.events[1].At = r.events[1].At.Add(1) },
	} {
		all := someRows()
		spoil(all)
		_, err := s.Import(t.Context(), all, nil)
		wantSentence(t, want, err, want)
		_, err = postgres.Check(t.Context(), all, nil)
		wantSentence(t, want, err, want)
	}
	wantEmpty(t, s)
}

// TestEarliestAndLatestTimesAreKept that are not refused.
func TestEarliestAndLatestTimesAreKept(t *testing.T) {
	s := open(t, newDatabase(t, "current"))
	all := someRows()
	all.records[0].Created = time.Date(-4712, 1, 1, 0, 0, 0, 1000, time.UTC)
	all.records[0].Expires = time.Date(294275, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	if _, err := s.Import(t.Context(), all, nil); err != nil {
		t.Error(err)
	}
}

// TestSlowSourceIsWaitedFor longer than any other statement may take.
func TestSlowSourceIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := open(t, newDatabase(t, "current"))
	all := someRows()
	all.before = func(record int) error {
		if record == 1 {
			time.Sleep(6 * time.Second)
		}
		return nil
	}
	if _, err := s.Import(t.Context(), all, nil); err != nil {
		t.Error(err)
	}
}

// TestAnImportWithoutAnAnswerEnds, but not one that only takes long.
func TestAnImportWithoutAnAnswerEnds(t *testing.T) {
	defer postgres.SetPatience(time.Second)()
	database, proxy := newName(t, "current"), newProxy(t)
	all := someRows()
	all.before = func(int) error {
		time.Sleep(600 * time.Millisecond)
		return nil
	}
	if _, err := open(t, server.URL(database)).Import(t.Context(), all, nil); err != nil {
		t.Errorf("one that takes long: %v", err)
	}
	s := open(t, urlBy(newName(t, "current"), proxy))
	all.before = func(int) error {
		proxy.Hang()
		return nil
	}
	_, err := s.Import(t.Context(), all, nil)
	wantSentence(t, "one without an answer", err, "nothing came or went for")
	proxy.Cut()
}

func wantSentence(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%s: the error does not say %q: %v", what, w, err)
		}
	}
}
