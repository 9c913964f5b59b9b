package sqlite_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func TestNothingElseHoldsLoginsUp(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	check(s.Occupy(ctx))
	wantRecord(t, s, kept)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLockedDatabaseIsReadAndSaysWhyItCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	conn, err := shell(t, path).Conn(t.Context())
	check(err)
	_, err = conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	check(err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = s.Mint(ctx, newRecord(), token.Quota{}, created)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: got error %v, want %v at once", took, err, context.DeadlineExceeded)
	}
	wantRecord(t, s, kept)

	began = time.Now()
	err = s.Mint(context.Background(), newRecord(), token.Quota{}, created)
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("the writer waited for %v", took)
	}
	wantSentence(t, err, path, "another program, a backup say, keeps", "locked")

	_, err = conn.ExecContext(t.Context(), `ROLLBACK`)
	check(err)
	mint(t, s)
}

func TestLookUpThatHangsEndsAfterASecond(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	wantRecord(t, s, kept)
	blocker := startChild(t, "block readers", path)
	if line, _ := blocker.line(); line != "locked" {
		t.Fatalf("the child says %q", line)
	}

	began := time.Now()
	_, err := s.Lookup(context.Background(), kept.Digest)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
		t.Errorf("after %v: got error %v, want %v after a second", took, err, context.DeadlineExceeded)
	}
	wantSentence(t, err, "no answer from "+path+" within 1s")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = s.Lookup(ctx, kept.Digest)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
		t.Errorf("after %v: got error %v, want %v at once", took, err, context.DeadlineExceeded)
	}

	check(blocker.stdin.Close())
	check(blocker.cmd.Wait())
	wantRecord(t, s, kept)
}

// TestWhatACommitThatHangsIsAboutIsKnown: the disk takes longer than a change
// may, and then the change is there.
func TestWhatACommitThatHangsIsAboutIsKnown(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	for _, change := range []struct {
		name string
		do   func(context.Context) (token.Digest, error)
		made func(token.Record) bool
	}{
		{"disable", func(ctx context.Context) (token.Digest, error) {
			digests, _, err := s.SetDisabled(ctx, "alice", true, now, created)
			return append(digests, token.Digest{})[0], err
		}, func(r token.Record) bool { return r.OwnerDisabled }},
		{"revoke", func(ctx context.Context) (token.Digest, error) {
			records, err := s.Revoke(ctx, token.Selection{ID: kept.ID}, now, revoked)
			return append(records, token.Record{})[0].Digest, err
		}, func(r token.Record) bool { return !r.Revoked.IsZero() }},
	} {
		held, goOn := make(chan struct{}), make(chan struct{})
		check(s.AtCommit(t.Context(), func() {
			close(held)
			<-goOn
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-held
			cancel()
		}()
		digest, err := change.do(ctx)
		if digest != kept.Digest || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got the digest %.8s and error %v", change.name, digest, err)
		}
		if r, err := s.Lookup(t.Context(), kept.Digest); err != nil || change.made(r) {
			t.Errorf("%s: made before the commit's end (%v)", change.name, err)
		}
		close(goOn)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			if r, err := s.Lookup(t.Context(), kept.Digest); err == nil && change.made(r) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not made after the commit's end", change.name)
			}
		}
	}
}

// TestChangeAndItsEntryAreOneCommit: none is ever there without the other.
func TestChangeAndItsEntryAreOneCommit(t *testing.T) {
	s := open(t, newPath(t))
	kept := mint(t, s)
	changes, commits := everyChange(t, s, kept), 0
	check(s.AtCommit(t.Context(), func() { commits++ }))
	for name, change := range changes {
		commits = 0
		if err := change(t.Context()); err != nil || commits != 1 {
			t.Errorf("%s: %d commits, %v", name, commits, err)
		}
	}
}

// TestChangeWithoutItsEntryIsNotMade has the audit trail refuse all entries.
func TestChangeWithoutItsEntryIsNotMade(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	kept := mint(t, s)
	changes := everyChange(t, s, kept)
	run(t, shell(t, path), `CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no more entries'); END`)
	for name, change := range changes {
		if err := change(t.Context()); err == nil || !strings.Contains(err.Error(), "no more entries") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	wantRecord(t, s, kept)
	if records, err := s.Records(t.Context(), token.Page{Limit: 10}); len(records) != 2 || err != nil {
		t.Errorf("%d tokens are kept (%v)", len(records), err)
	}
}

func everyChange(t *testing.T, s *sqlite.Store, kept token.Record) map[string]func(context.Context) error {
	t.Helper()
	check(s.Mint(t.Context(), newRecordOf("carol"), token.Quota{}, created))
	_, _, err := s.SetDisabled(t.Context(), "carol", true, now, created)
	check(err)
	return map[string]func(context.Context) error{
		"mint": func(ctx context.Context) error { return s.Mint(ctx, newRecordOf("bob"), token.Quota{}, created) },
		"disable": func(ctx context.Context) error {
			_, _, err := s.SetDisabled(ctx, kept.Owner, true, now, created)
			return err
		},
		"enable": func(ctx context.Context) error {
			_, _, err := s.SetDisabled(ctx, "carol", false, now, created)
			return err
		},
		"revoke": func(ctx context.Context) error {
			_, err := s.Revoke(ctx, token.Selection{ID: kept.ID}, now, revoked)
			return err
		},
	}
}

func newRecordOf(user string) token.Record {
	r := newRecord()
	r.Owner = user
	return r
}
