package manage_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// foreign is a token of another program's.
func foreign(owner string, scheme token.Scheme) token.Record {
	return token.Record{Digest: token.Mint().Digest(), Scheme: scheme, Owner: owner, Hint: "0123abcd", Label: "laptop"}
}

// TestImportedTokensThatMaxExpiryHasEndedAreTold: they are kept, as it may be raised.
func TestImportedTokensThatMaxExpiryHasEndedAreTold(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxExpiry: day})
	old, young := foreign("alice", token.Knox5), foreign("alice", token.Knox5)
	old.Created, young.Created = token.Time(f.now).Add(-25*time.Hour), token.Time(f.now).Add(-23*time.Hour)
	for _, dryRun := range []bool{true, false} {
		result, err := f.Import(t.Context(), actor, "SODAR", []token.Record{old, young}, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "result", result, manage.Imported{New: 2, Ended: 1})
	}
}

func TestImportedTokensAreKeptWithWhatIsKnownOfThem(t *testing.T) {
	f := newFixture(t, manage.Limits{MaxPerUser: 1})
	now := token.Time(f.now)
	whole, bare := foreign("alice", token.Knox5), foreign("alice", token.Knox4)
	whole.Created, whole.Expires = now.Add(-time.Hour+time.Nanosecond), now.Add(time.Hour+time.Nanosecond) // finer than is kept
	bare.Label = "two\nlines"
	later := foreign("bob@ORG", token.Knox5)
	later.Created = now.Add(time.Hour) // by a clock that is ahead
	all := []token.Record{whole, bare, later}
	for _, dryRun := range []bool{true, false} {
		if n := len(f.events(t)); n > 0 {
			t.Errorf("the dry run has written %d events", n)
		}
		result, err := f.Import(t.Context(), actor, "SODAR", all, dryRun)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "result", result, manage.Imported{New: 3, Unlabelled: 1})
	}
	whole.Created, whole.Expires = now.Add(-time.Hour), now.Add(time.Hour)
	kept := bare
	kept.Label, kept.Created, later.Created = "", now, now
	for _, want := range []token.Record{whole, kept, later} {
		got := f.kept(t, want.Digest)
		want.ID = got.ID
		same(t, "record", got, want)
		if len(got.ID) != 12 {
			t.Errorf("its ID is %q", got.ID)
		}
	}
	events := f.events(t)
	if len(events) != 3 || events[0].Action != token.TokenImported || events[0].Actor != actor || events[0].Detail != "from SODAR" {
		t.Errorf("the trail has %+v", events)
	}
	for _, dryRun := range []bool{true, false} {
		again, err := f.Import(t.Context(), actor, "SODAR", append(all, foreign("a b", token.Knox5)), dryRun)
		if err != nil {
			t.Fatal(err)
		}
		again.Refused = nil
		same(t, "again", again, manage.Imported{Known: 3, Unlabelled: 1})
	}
}

// TestAnImportIsLoggedWithHowManyAreNew, if there are any, and told as what may have been done where nobody knows.
func TestAnImportIsLoggedWithHowManyAreNew(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	one := []token.Record{foreign("alice", token.Knox5)}
	for _, want := range []int{1, 0} {
		lines := f.logged(t, func() {
			if _, err := f.Import(t.Context(), actor, "SODAR", one, false); err != nil {
				t.Error(err)
			}
		})
		if len(lines) != want || want == 1 && (lines[0].Msg != "tokens imported" || lines[0].By != actor) {
			t.Errorf("the log says %+v", lines)
		}
	}
	unsure := manage.New(manage.Config{Store: unsureStore{f.store, token.ErrUnsure}, Logger: discard})
	if _, err := unsure.Import(t.Context(), actor, "SODAR", one, false); err == nil || strings.Contains(err.Error(), "none was imported") || !strings.Contains(err.Error(), "it may have been done all the same") {
		t.Errorf("nobody knows: %v", err)
	}
	refused := manage.New(manage.Config{Store: unsureStore{f.store, errRefused}, Logger: discard})
	if _, err := refused.Import(t.Context(), actor, "SODAR", one, false); err == nil || !strings.Contains(err.Error(), "of these 1 tokens none was imported") {
		t.Errorf("it is refused: %v", err)
	}
}

func TestWhatCannotBeImportedIsSaid(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	good, expired := foreign("alice", token.Knox5), foreign("alice", token.Knox5)
	expired.Expires = f.now.Add(-time.Microsecond)
	odd, none, own, strange := foreign("a b", token.Knox5), foreign("bob", token.Knox5), foreign("bob", token.Own), foreign("bob", "knox-3")
	none.Digest = token.Digest{}
	result, err := f.Import(t.Context(), actor, "SODAR", []token.Record{good, expired, odd, none, own, strange}, false)
	if err != nil {
		t.Fatal(err)
	}
	leaked := foreign(token.Mint().Reveal(), token.Knox5) // somebody has pasted it into the wrong field
	if result, err := f.Import(t.Context(), actor, "SODAR", []token.Record{leaked}, false); err != nil || len(result.Refused) != 1 || len(result.Refused[0].Owner) > 30 {
		t.Errorf("of a token for a name it says %+v, %v", result, err)
	}
	if result.New != 1 || result.Expired != 1 || len(result.Refused) != 4 || !strings.Contains(result.Refused[0].Why, "no iRODS user name") || result.Refused[0].Hint != "0123abcd" {
		t.Errorf("got %+v", result)
	}
	if _, err := f.Import(t.Context(), actor, "SODAR", make([]token.Record, manage.MaxImport+1), false); !errors.Is(err, manage.ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
}

// TestWhatCannotBeToldIsNotImported: hints and sources stand in lists and in the audit trail, and times in JSON.
func TestWhatCannotBeToldIsNotImported(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	long, broken, late, early := foreign("alice", token.Knox5), foreign("alice", token.Knox5), foreign("alice", token.Knox5), foreign("alice", token.Knox5)
	long.Hint, broken.Hint = strings.Repeat("0a", 32), "0123\n567"
	late.Expires = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.FixedZone("", -12*3600))
	early.Created = time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC)
	result, err := f.Import(t.Context(), actor, "SODAR", []token.Record{long, broken, late, early}, false)
	if err != nil || result.New != 1 || len(result.Refused) != 3 || result.Refused[0].Hint != "" || !strings.Contains(result.Refused[2].Why, "past the year 9999") {
		t.Errorf("got %+v, %v", result, err)
	}
	if kept := f.kept(t, early.Digest); !kept.Created.Equal(token.Time(f.now)) {
		t.Errorf("it was created %s", kept.Created)
	}
	secret := token.Mint().Reveal()
	if _, err := f.Import(t.Context(), actor, secret+"\nline"+strings.Repeat("é", 1000), []token.Record{foreign("bob", token.Knox5)}, false); err != nil {
		t.Error(err)
	}
	if detail := f.events(t)[0].Detail; strings.Contains(detail, secret) || strings.Contains(detail, "\n") || len(detail) > 1000 {
		t.Errorf("the trail has %q", detail)
	}
}
