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
	whole.Created, whole.Expires = now.Add(-time.Hour), now.Add(time.Hour)
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
	if result.New != 1 || result.Expired != 1 || len(result.Refused) != 4 || !strings.Contains(result.Refused[0].Why, "no iRODS user name") || result.Refused[0].Hint != "0123abcd" {
		t.Errorf("got %+v", result)
	}
	if _, err := f.Import(t.Context(), actor, "SODAR", make([]token.Record, manage.MaxImport+1), false); !errors.Is(err, manage.ErrInvalid) {
		t.Errorf("too many: %v", err)
	}
}
