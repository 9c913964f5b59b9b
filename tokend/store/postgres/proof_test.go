package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
)

// openUnheard leads past the pooler by a proxy. Nobody listens: each proof is a new one.
func openUnheard(t *testing.T) (*postgres.Store, *servers.Proxy) {
	t.Helper()
	database, past := newName(t, "current"), newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, server).URL(database), Direct: urlBy(database, past)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	await(t, "connections past the pooler", func() bool { return s.PastIdle() == 3 })
	return s, past
}

// free is a lock that the pooler leads elsewhere with.
func free(context.Context, int64) (bool, error) { return true, nil }

// TestWhoRunsOutOfTimeIsToldNothing: what is past the pooler would have answered, a moment later.
func TestWhoRunsOutOfTimeIsToldNothing(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	delay(past, 200*time.Millisecond)
	for what, c := range map[string]struct{ has, takes time.Duration }{
		"before it is held": {has: 100 * time.Millisecond}, "while it is looked at": {has: time.Second, takes: 700 * time.Millisecond},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), c.has)
		proved, err := s.ProveLookUp(ctx, func(context.Context, int64) (free bool, err error) {
			time.Sleep(c.takes)
			return true, nil
		})
		cancel()
		if err == nil {
			t.Errorf("%s: proved %t, and no error", what, proved)
		}
	}
}

// TestNobodysTimeEndsTheProofOfOthers, who have it held longer.
func TestNobodysTimeEndsTheProofOfOthers(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	delay(past, 60*time.Millisecond)
	if _, err := s.ProveLookUp(t.Context(), func(ctx context.Context, _ int64) (bool, error) {
		soon, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		if _, err := s.ProveLookUp(soon, free); err == nil {
			t.Error("who had no time is told something")
		}
		return true, nil
	}); !errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("it is told %v", err)
	}
}

// TestWhoRunsOutOfTimeBeginsAProofForOthers, who have longer.
func TestWhoRunsOutOfTimeBeginsAProofForOthers(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	delay(past, 100*time.Millisecond)
	var first sync.WaitGroup
	defer first.Wait()
	first.Go(func() {
		soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := s.ProveLookUp(soon, free); err == nil {
			t.Error("who had no time is told something")
		}
	})
	time.Sleep(20 * time.Millisecond) // it has begun
	if _, err := s.ProveLookUp(t.Context(), free); !errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("it is told %v", err)
	}
}

// TestAProofThatEndsIsTriedAgain, once; a change is not made where that one ends, too.
func TestAProofThatEndsIsTriedAgain(t *testing.T) {
	for _, tt := range []struct {
		ends   int
		change bool
		want   error
	}{
		{1, false, postgres.ErrElsewhere}, {1, true, postgres.ErrElsewhere}, {2, false, nil}, {2, true, postgres.ErrUnproved},
	} {
		var err error
		for range 3 { // a busy machine may not have the second in time
			s, past := openUnheard(t)
			prove, tried := s.ProveLookUp, 0
			if tt.change {
				prove = s.ProveChange
			}
			_, err = prove(t.Context(), func(context.Context, int64) (bool, error) {
				if tried++; tried <= tt.ends {
					past.Cut()
					past.Heal()
				}
				return true, nil
			})
			if errors.Is(err, tt.want) {
				break
			}
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("where %d end, change %t: it is told %v", tt.ends, tt.change, err)
		}
	}
}

// TestAChangeIsNotMadeWhereTheServerRefusesToTell: what is past the pooler answers, after all.
func TestAChangeIsNotMadeWhereTheServerRefusesToTell(t *testing.T) {
	t.Parallel()
	database := newName(t, "current")
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, server).URL(database), Direct: server.URL(database)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	run(t.Context(), server.URL("postgres"), `ALTER DATABASE `+database+` ALLOW_CONNECTIONS false`)
	run(t.Context(), server.URL("postgres"), `SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = '`+database+`'`)
	if _, err := s.ProveChange(t.Context(), free); err == nil || !strings.Contains(err.Error(), "past the pooler, by [store] direct_url") || !strings.Contains(err.Error(), "not currently accepting connections") {
		t.Errorf("a change is told %v", err)
	}
	if proved, err := s.ProveLookUp(t.Context(), free); proved || err != nil {
		t.Errorf("a look-up is told %t, %v", proved, err)
	}
}

// TestAChangeIsNotMadeWhereAStandbyIsPastThePooler: it answers, too.
func TestAChangeIsNotMadeWhereAStandbyIsPastThePooler(t *testing.T) {
	t.Parallel()
	own, err := servers.StartPostgreSQL("fsync=off")
	check(err)
	t.Cleanup(func() { check(own.Stop()) })
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, own).URL("postgres"), Direct: own.URL("postgres")})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	check(own.Kill())
	await(t, "the standby", func() bool { return own.Demote() == nil }) // once the processes of the one before have ended
	if _, err := s.ProveChange(t.Context(), free); err == nil || !strings.Contains(err.Error(), "past the pooler, by [store] direct_url") {
		t.Errorf("a change is told %v", err)
	}
}

// TestAChangeIsNotMadeForASilenceThatIsOver, though look-ups take it that it lasts.
func TestAChangeIsNotMadeForASilenceThatIsOver(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	past.Hang()
	if proved, err := s.ProveLookUp(t.Context(), free); proved || err != nil {
		t.Fatalf("while nothing answers: %t, %v", proved, err)
	}
	past.Heal()
	if _, err := s.ProveLookUp(t.Context(), free); err != nil {
		t.Fatalf("the silence is forgotten: nothing is shown: %v", err)
	}
	if _, err := s.ProveChange(t.Context(), free); !errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("a change is told %v", err)
	}
}

// TestNothingIsChangedWhereNothingAnswersPastThePooler: nobody knows where it leads. What is asked
// there is for now alone.
func TestNothingIsChangedWhereNothingAnswersPastThePooler(t *testing.T) {
	t.Parallel()
	for what, silence := range map[string]func(*servers.Proxy){"hangs": (*servers.Proxy).Hang, "is cut": (*servers.Proxy).Cut} {
		s, past := openUnheard(t)
		silence(past)
		_, err := s.ProveChange(t.Context(), free)
		if !errors.Is(err, postgres.ErrUnproved) || errors.Is(err, context.DeadlineExceeded) { // or it might have been made all the same
			t.Errorf("where it %s, a change: %v", what, err)
		}
		if proved, err := s.ProveLookUp(t.Context(), free); proved || err != nil {
			t.Errorf("where it %s, a look-up: %t, %v", what, proved, err)
		}
		past.Heal()
		await(t, "a change", func() bool {
			proved, err := s.ProveChange(t.Context(), func(context.Context, int64) (bool, error) { return false, nil })
			return proved && err == nil
		})
	}
}

// TestAProofThatIsOverIsJoinedByNobody.
func TestAProofThatIsOverIsJoinedByNobody(t *testing.T) {
	t.Parallel()
	s, _ := openUnheard(t)
	seen := map[int64]bool{}
	for range 3 {
		proved, err := s.ProveLookUp(t.Context(), func(_ context.Context, lock int64) (free bool, err error) {
			if seen[lock] {
				t.Error("it is tried again")
			}
			seen[lock] = true
			return false, nil
		})
		if !proved || err != nil {
			t.Errorf("proved %t, %v", proved, err)
		}
	}
}

// TestAProofThatIsHeldIsJoinedAfterASilence, which is over then.
func TestAProofThatIsHeldIsJoinedAfterASilence(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	past.Hang()
	_, err := s.ProveLookUp(t.Context(), free)
	check(err)
	past.Heal()
	_, err = s.ProveChange(t.Context(), func(ctx context.Context, _ int64) (bool, error) {
		if _, err := s.ProveLookUp(ctx, free); !errors.Is(err, postgres.ErrElsewhere) {
			t.Errorf("a look-up is told %v", err)
		}
		return false, nil
	})
	check(err)
}

// TestASessionHasOutlivedWhatItAnsweredAfter, and no other session has.
func TestASessionHasOutlivedWhatItAnsweredAfter(t *testing.T) {
	t.Parallel()
	s, _ := openUnheard(t)
	for what, c := range map[string]struct {
		held, asked, then time.Duration // ago
		happens           func()
		want              bool
	}{
		"it answers":               {held: time.Hour, asked: time.Second, happens: func() { s.SetAsked(time.Now()) }, want: true},
		"it has answered":          {held: time.Hour, asked: 0, then: time.Second, want: true},
		"it has answered before":   {held: time.Hour, asked: time.Second, then: 500 * time.Millisecond},
		"it has just come":         {held: time.Second, asked: time.Hour, happens: func() { s.SetAsked(time.Now()) }, want: true},
		"it says nothing":          {held: time.Hour, asked: time.Hour},
		"it says something late":   {held: time.Hour, asked: 3 * time.Second, happens: func() { s.SetAsked(time.Now()) }},
		"another one answers":      {held: time.Hour, asked: time.Second, happens: func() { s.SetMark(time.Now()); s.SetAsked(time.Now()) }},
		"it ends, and none is new": {held: time.Hour, asked: time.Second, happens: func() { s.NoMark(); s.SetAsked(time.Now()) }},
	} {
		now := time.Now()
		s.SetMark(now.Add(-c.held))
		s.SetAsked(now.Add(-c.asked))
		outlived := s.Outlives(t.Context())
		answer := make(chan bool)
		go func() { answer <- outlived(now.Add(-c.then)) }()
		time.Sleep(50 * time.Millisecond)
		if c.happens != nil {
			c.happens()
		}
		if got := <-answer; got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// TestASessionThatHasJustComeIsWaitedFor, though it has answered nothing yet.
func TestASessionThatHasJustComeIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, _, _, _, _ := openHearing(t)
	s.SetAsked(time.Now().Add(-time.Hour))
	if outlived := s.Outlives(t.Context()); !outlived(time.Now()) {
		t.Error("it is not")
	}
}
