package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
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
	const remedy = "does sslrootcert in [store] direct_url name"
	said := postgres.Unproved(errors.New("server refused TLS connection")).Error() // the driver's words
	if n := strings.Count(said, remedy); n != 1 || strings.Contains(said, "[store] url") {
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
	direct := open(t, server.URL(database))
	if kept := keysOf(t, direct, 1, 0); kept[0] != made[0] {
		t.Error("others have been made there")
	}
	for range 30 {
		keysOf(t, s, 1, 0)
	}
	conn := connect(t.Context(), server.URL(database))
	var sessions int
	check(conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = $1`, database).Scan(&sessions))
	check(conn.Close(t.Context()))
	if sessions > 25 {
		t.Errorf("%d sessions are left", sessions)
	}
}

// TestAChangeThatWaitsToBeRefusedKeepsNoConnectionFromLogins: those of the pooler are few.
func TestAChangeThatWaitsToBeRefusedKeepsNoConnectionFromLogins(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	past.Hang()
	var changes sync.WaitGroup
	for range 8 {
		changes.Go(func() { _ = s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}) })
	}
	inUse, looks := 0, 0
	for begun := time.Now(); time.Since(begun) < 400*time.Millisecond; time.Sleep(5 * time.Millisecond) {
		looks++
		if s.ChangesInUse() > 0 {
			inUse++
		}
	}
	changes.Wait()
	if inUse > looks/4 {
		t.Errorf("at %d of %d looks connections are in use", inUse, looks)
	}
}

// TestWhatTheListeningSessionProvesCanBeChanged, though there is no other connection past the pooler, and
// nothing else is said.
func TestWhatTheListeningSessionProvesCanBeChanged(t *testing.T) {
	t.Parallel()
	database := newName(t, "current")
	role := database + "_direct"
	admin := func(sql string) { t.Helper(); run(t.Context(), server.URL("postgres"), sql) }
	admin(`CREATE ROLE ` + role + ` LOGIN IN ROLE tokend`)
	t.Cleanup(func() { run(context.Background(), server.URL("postgres"), `DROP ROLE `+role) })
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newPooler(t, server).URL(database), Direct: server.URLAs(role, database)})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	await(t, "the first answer", s.Hears)
	admin(`ALTER ROLE ` + role + ` CONNECTION LIMIT 1`)
	admin(fmt.Sprintf(`SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
		WHERE usename = '%s' AND pid NOT IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %d)`, role, uint32(s.Mark())))
	for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		mint(t, s)
		if err := s.ChangesErr(); err != nil {
			t.Fatalf("it says %v", err)
		}
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

// TestWhatIsLateIsNotMadeElsewhereForSure.
func TestWhatIsLateIsNotMadeElsewhereForSure(t *testing.T) {
	t.Parallel()
	long(t)
	s, _ := openUnheard(t)
	for _, why := range []error{postgres.ErrElsewhere, postgres.ErrUnproved} {
		if err := s.LateChange(t.Context(), why); !errors.Is(err, why) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it is told %v, want %v", err, why)
		}
	}
}

// TestWhoseProofIsSilentIsToldWhatOthersHaveFound: the pooler leads elsewhere.
func TestWhoseProofIsSilentIsToldWhatOthersHaveFound(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	if _, err := s.ProveLookUp(t.Context(), free); !errors.Is(err, postgres.ErrElsewhere) || !s.Elsewhere() {
		t.Fatalf("the first is told %v", err)
	}
	past.Hang()
	if _, err := s.ProveLookUp(t.Context(), free); !errors.Is(err, postgres.ErrElsewhere) {
		t.Errorf("it is told %v", err)
	}
}

// TestALookUpDoesNotWaitWhereItWasSilent, though a change does.
func TestALookUpDoesNotWaitWhereItWasSilent(t *testing.T) {
	t.Parallel()
	s, past := openUnheard(t)
	past.Hang()
	if _, err := s.ProveLookUp(t.Context(), free); err != nil {
		t.Fatal(err)
	}
	var change sync.WaitGroup
	defer change.Wait()
	change.Go(func() { _, _ = s.ProveChange(t.Context(), free) })
	time.Sleep(50 * time.Millisecond) // its proof has begun
	healed := time.AfterFunc(300*time.Millisecond, past.Heal)
	defer healed.Stop()
	if proved, err := s.ProveLookUp(t.Context(), free); proved || err != nil { // had it waited, it would know better
		t.Errorf("it is told %t, %v", proved, err)
	}
}

// TestALookUpIsToldInTimeWhereAProofIsLateAndEnds, noticed or not: there is no time for another one.
func TestALookUpIsToldInTimeWhereAProofIsLateAndEnds(t *testing.T) {
	t.Parallel()
	for how, noticed := range map[string]bool{"noticed": true, "without a word": false} {
		var proved bool
		var err error
		var ended int
		for range 3 { // a busy machine may take its time
			s, past := openUnheard(t)
			delay(past, 350*time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
			ended = 0
			proved, err = s.ProveLookUp(ctx, func(ctx context.Context, _ int64) (bool, error) {
				past.Hang()
				conn := connect(context.WithoutCancel(ctx), server.URL("postgres"))
				var n int
				check(conn.QueryRow(context.WithoutCancel(ctx), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
					WHERE datname = $1 AND state = 'idle in transaction' AND query LIKE '%pg_advisory_xact_lock%'`, s.Database()).Scan(&n))
				check(conn.Close(context.WithoutCancel(ctx)))
				ended += n
				if noticed {
					past.Cut()
					past.Hang()
				}
				return true, nil
			})
			cancel()
			if err == nil && ended > 0 {
				break
			}
		}
		if proved || err != nil || ended == 0 {
			t.Errorf("%s: it is told %t, %v, and %d proofs were ended", how, proved, err, ended)
		}
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
	await(t, "all to be well", func() bool { return s.ChangesErr() == nil })
	const warned = "nothing is changed through the pooler meanwhile"
	before := log.count(warned) // a busy machine may have been late at the start
	past.Cut()
	await(t, "that to be known", func() bool { return errors.Is(s.ChangesErr(), postgres.ErrUnproved) })
	check(lookUp(s, r))
	time.Sleep(2500 * time.Millisecond) // it is looked at again, twice
	past.Heal()
	await(t, "changes", func() bool { return s.ChangesErr() == nil })
	mint(t, s)
	if n, again := log.count(warned)-before, log.count("it can be told again where the pooler leads")-before; n != 1 || again != 1 {
		t.Errorf("the log says it %d times, and %d times that it is over:\n%s", n, again, log.all())
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
