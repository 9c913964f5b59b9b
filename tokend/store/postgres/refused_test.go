package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// TestEachChangeIsRefusedWhereNothingAnswersPastThePooler, and not begun.
func TestEachChangeIsRefusedWhereNothingAnswersPastThePooler(t *testing.T) {
	t.Parallel()
	for how, silence := range map[string]func(*servers.Proxy){"hangs": (*servers.Proxy).Hang, "is cut": (*servers.Proxy).Cut} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, past := openUnheard(t)
			_, err := s.CacheKeys(t.Context()) // makes them
			check(err)
			r := newRecord()
			changes := []struct {
				what string
				make func() error
			}{ // in this order: what is imported must be the first
				{"an import", func() error { _, err := s.Import(t.Context(), someRows(), nil); return err }},
				{"a new token", func() error { return s.Mint(t.Context(), r, token.Quota{}, token.Event{At: created}) }},
				{"a revoke", func() error { return revokeNow(t, s, r) }},
				{"disabling", func() error {
					_, _, err := s.SetDisabled(t.Context(), r.Owner, true, created, token.Event{At: created})
					return err
				}},
				{"a rotation", func() error { _, err := s.RotateCacheKey(t.Context(), token.Event{At: created}); return err }},
			}
			silence(past)
			for _, c := range changes {
				if err := c.make(); !errors.Is(err, postgres.ErrUnproved) || errors.Is(err, token.ErrUnsure) || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", c.what, err)
				}
			}
			past.Heal()
			await(t, "the way past it", func() bool {
				proved, err := s.ProveChange(t.Context(), func(context.Context, int64) (bool, error) { return false, nil })
				return proved && err == nil
			})
			for _, c := range changes {
				if err := c.make(); err != nil {
					t.Errorf("%s once it answers: %v", c.what, err)
				}
			}
		})
	}
}

// TestARefusalNamesItsRemedyOnce: what is wrong past the pooler is not said of the way through it, too.
func TestARefusalNamesItsRemedyOnce(t *testing.T) {
	t.Parallel()
	const remedy = "does sslrootcert in [store] url"
	said := postgres.Unproved(errors.New("server refused TLS connection")).Error() // the driver's words
	if n := strings.Count(said, remedy); n != 1 {
		t.Errorf("it is named %d times: %s", n, said)
	}
}

// TestTheKeysOfTheCacheAreMadeInTheRightDatabase, where changes are heard of.
func TestTheKeysOfTheCacheAreMadeInTheRightDatabase(t *testing.T) {
	t.Parallel()
	database, other, pooler := newName(t, "current"), newName(t, "current"), newPooler(t, server)
	s := openPooled(t, pooler, server, database)
	check(pooler.Lead(database, server, other))
	made, err := s.CacheKeys(t.Context())
	check(err)
	if kept := keysOf(t, open(t, server.URL(database)), 1, 0); kept[0] != made[0] {
		t.Error("others have been made there")
	}
}

// TestAChangeThatJoinsALateProofBeginsItsOwn: a look-up's, whose time is up when the change has
// hardly asked.
func TestAChangeThatJoinsALateProofBeginsItsOwn(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	var late atomic.Bool
	past.Delay(func(bool, []byte) time.Duration {
		if late.Load() {
			return 2 * time.Second
		}
		return 0
	})
	late.Store(true)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = s.ProveLookUp(t.Context(), free)
	}()
	time.Sleep(200 * time.Millisecond) // it has begun
	late.Store(false)
	if _, err := s.ProveChange(t.Context(), free); !errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("a change is told %v", err)
	}
	<-asked
}

// TestAChangeWhoseTimeIsUpIsRefusedForSure: it hears that it was not made, and nothing of a commit
// without an answer.
func TestAChangeWhoseTimeIsUpIsRefusedForSure(t *testing.T) {
	t.Parallel()
	database, past := newName(t, "current"), newProxy(t)
	way, err := servers.StartProxy("unix", newPooler(t, server).Socket())
	check(err)
	t.Cleanup(func() { check(way.Close()) })
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(database, way), Direct: urlBy(database, past)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	mint(t, s) // makes a connection
	past.Hang()
	delay(way, 4800*time.Millisecond) // of the 5 s that a change has
	err = s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created})
	if !errors.Is(err, postgres.ErrUnproved) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it is told %v", err)
	}
}

// TestThatNothingCanBeChangedIsSaid, once in the log, while look-ups go on.
func TestThatNothingCanBeChangedIsSaid(t *testing.T) {
	t.Parallel()
	database, past := newName(t, "current"), newProxy(t)
	var log lines
	s, err := postgres.Open(t.Context(), postgres.Config{
		URL: newPooler(t, server).URL(database), Direct: urlBy(database, past), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	told(t, s)
	await(t, "the first answer", s.Hears)
	if err := s.ChangesErr(); err != nil {
		t.Errorf("all is well, and it says %v", err)
	}
	past.Cut()
	await(t, "that to be known", func() bool { return errors.Is(s.ChangesErr(), postgres.ErrUnproved) })
	check(lookUp(s, r))
	time.Sleep(2500 * time.Millisecond) // it is looked at again, twice
	past.Heal()
	await(t, "changes", func() bool { return s.ChangesErr() == nil })
	mint(t, s)
	if n, again := log.count("nothing is changed through the pooler meanwhile"), log.count("it can be told again where the pooler leads"); n != 1 || again != 1 {
		t.Errorf("the log says it %d times, and %d times that it is over:\n%s", n, again, bytes.TrimSpace(log.text.Bytes()))
	}
}

// TestThePoolerThatIsAwayIsNotTheWayPastIt: what is told is that the store does not answer.
func TestThePoolerThatIsAwayIsNotTheWayPastIt(t *testing.T) {
	t.Parallel()
	database, pooler := newName(t, "current"), newPooler(t, server)
	s := openPooled(t, pooler, server, database)
	told(t, s)
	await(t, "the first answer", s.Hears)
	check(pooler.Kill())
	for begun := time.Now(); time.Since(begun) < 2500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		if err := s.ChangesErr(); err != nil {
			t.Fatalf("it says %v", err)
		}
	}
	if s.Ping(t.Context()) == nil {
		t.Error("and the store answers")
	}
}
