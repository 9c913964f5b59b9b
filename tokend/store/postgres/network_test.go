package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// newProxy is one before the server.
func newProxy(t *testing.T) *servers.Proxy {
	t.Helper()
	return newProxyTo(t, server)
}

func newProxyTo(t *testing.T, server *servers.PostgreSQL) *servers.Proxy {
	t.Helper()
	proxy, err := servers.StartProxy("unix", filepath.Join(server.Dir(), ".s.PGSQL."+server.Port()))
	check(err)
	t.Cleanup(func() { check(proxy.Close()) })
	return proxy
}

func urlBy(database string, proxies ...*servers.Proxy) string {
	var addresses []string
	for _, p := range proxies {
		addresses = append(addresses, p.Addr())
	}
	return "postgres://tokend@" + strings.Join(addresses, ",") + "/" + database + "?sslmode=disable"
}

// lost has the proxy hold all chunks back from that side, from the one that holds the words
// on, and tells when there was one.
func lost(t *testing.T, proxy *servers.Proxy, fromClient bool, words string) <-chan struct{} {
	t.Helper()
	t.Cleanup(proxy.Cut) // or the end waits for an answer
	there := make(chan struct{}, 1000)
	proxy.Delay(func(client bool, chunk []byte) time.Duration {
		if client != fromClient || !bytes.Contains(chunk, []byte(words)) {
			return 0
		}
		there <- struct{}{}
		return time.Hour
	})
	return there
}

// TestAServerThatSaysNothingIsNotWaitedForAtTheEnd, or the daemon would not be started again.
func TestAServerThatSaysNothingIsNotWaitedForAtTheEnd(t *testing.T) {
	t.Parallel()
	long(t)
	proxy := newProxy(t)
	s, err := postgres.Open(t.Context(), postgres.Config{URL: urlBy(newName(t, "current"), proxy)})
	check(err)
	check(s.Ping(t.Context()))
	t.Cleanup(proxy.Cut)
	proxy.Hang()
	if s.Ping(t.Context()) == nil {
		t.Error("it answers")
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		check(err)
	case <-time.After(10 * time.Second):
		t.Error("it is waited for")
	}
}

// TestChangeWhoseCommitIsNotAnsweredMayBeMade, and that is said, unless the server has said that it ended it before.
func TestChangeWhoseCommitIsNotAnsweredMayBeMade(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		fromClient bool
		words      string
		cut, made  bool
		sure       bool
	}{
		"the answer is held back": {false, "COMMIT", false, true, false},
		"the answer is lost":      {false, "COMMIT", true, true, false},
		"the commit is held back": {true, "commit\x00", false, false, true},
		"the commit is lost":      {true, "commit\x00", true, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			database, proxy := newName(t, "current"), newProxy(t)
			s, past := open(t, urlBy(database, proxy)), open(t, server.URL(database))
			there := lost(t, proxy, c.fromClient, c.words)
			if c.cut {
				go func() {
					<-there
					proxy.Cut()
				}()
			}
			r := newRecord()
			began := time.Now()
			err := s.Mint(t.Context(), r, token.Quota{}, token.Event{At: created})
			unsure := errors.Is(err, token.ErrUnsure) || errors.Is(err, context.DeadlineExceeded)
			if took := time.Since(began); err == nil || unsure == c.sure || took > 8*time.Second {
				t.Errorf("got error %v after %s", err, took)
			}
			if _, err := past.Lookup(t.Context(), r.Digest); (err == nil) != c.made {
				t.Errorf("looked up: %v", err)
			}
		})
	}
}

// TestChangeThatNeverGotToItsCommitIsNotMade, and nothing is unsure about it.
func TestChangeThatNeverGotToItsCommitIsNotMade(t *testing.T) {
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	there := lost(t, proxy, true, "INSERT INTO tokens")
	go func() {
		<-there
		proxy.Cut()
	}()
	if err := s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}); err == nil || errors.Is(err, token.ErrUnsure) {
		t.Errorf("got error %v", err)
	}
}

// TestAChangeThatWasNotBegunIsNotMade for sure, though its time is up.
func TestAChangeThatWasNotBegunIsNotMade(t *testing.T) {
	t.Parallel()
	long(t)
	proxy := newProxy(t)
	s := open(t, urlBy(newName(t, "current"), proxy))
	r := mint(t, s)
	proxy.Hang()
	for what, err := range map[string]error{"mint": s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}), "revoke": revokeNow(t, s, r)} {
		if err == nil || errors.Is(err, token.ErrUnsure) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 5s") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAChangeIsMadeWhereTheServerAnswersInItsTime, however many connections are tried meanwhile.
func TestAChangeIsMadeWhereTheServerAnswersInItsTime(t *testing.T) {
	t.Parallel()
	database, refuses, proxy := newName(t, "current"), newProxy(t), newProxy(t)
	refuses.Cut() // as the old primary, which was ended
	s := open(t, urlBy(database, refuses, proxy))
	mint(t, s)
	proxy.Hang()
	made := make(chan error, 1)
	go func() { made <- s.Mint(context.Background(), newRecord(), token.Quota{}, token.Event{At: created}) }()
	time.Sleep(3500 * time.Millisecond)
	proxy.Heal()
	if err := <-made; err != nil {
		t.Error(err)
	}
}

// TestAChangeOfWhichTheServerHeardNothingIsNotMade, and that is said, and not left open.
func TestAChangeOfWhichTheServerHeardNothingIsNotMade(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"INSERT INTO events", "commit"} {
		database, proxy := newName(t, "current"), newProxy(t)
		s := open(t, urlBy(database, proxy))
		proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
			if fromClient && bytes.Contains(chunk, []byte(words)) {
				return 1500 * time.Millisecond // as if the daemon was stopped
			}
			return 0
		})
		r := newRecord()
		err := s.Mint(t.Context(), r, token.Quota{}, token.Event{At: created})
		if err == nil || errors.Is(err, token.ErrUnsure) || !strings.Contains(err.Error(), "heard nothing of it for too long, and nothing was done") {
			t.Errorf("%s: %v", words, err)
		}
		if _, isNow := errors.AsType[token.NotNowError](err); !isNow {
			t.Errorf("%s: it is no matter of now: %v", words, err)
		}
		proxy.Delay(nil)
		if _, err := s.Lookup(t.Context(), r.Digest); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("%s: looked up: %v", words, err)
		}
	}
}

// TestWhatTheNetworkHasLostOfAChangeKeepsNoOtherFromItsTime: the server holds what it has locked until it has waited for
// its next word.
func TestWhatTheNetworkHasLostOfAChangeKeepsNoOtherFromItsTime(t *testing.T) {
	t.Parallel()
	database, proxy := newName(t, "current"), newProxy(t)
	s, other := open(t, urlBy(database, proxy)), open(t, server.URL(database))
	there := lost(t, proxy, true, "INSERT INTO events")
	var begun sync.WaitGroup
	begun.Go(func() {
		if err := s.Mint(context.Background(), newRecord(), token.Quota{}, token.Event{At: created}); err == nil {
			t.Error("what was lost is acknowledged")
		}
	})
	<-there
	if err := other.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}); err != nil {
		t.Error(err)
	}
	begun.Wait()
}

// TestRefusalIsNotHeldUp by a rollback that nobody answers.
func TestRefusalIsNotHeldUp(t *testing.T) {
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	mint(t, s)
	there := lost(t, proxy, true, "rollback")
	began := time.Now()
	err := s.Mint(t.Context(), newRecord(), token.Quota{Tokens: 1}, token.Event{At: created})
	if took := time.Since(began); !errors.Is(err, token.ErrTooMany) || took > 3*time.Second {
		t.Errorf("got error %v after %s", err, took)
	}
	if len(there) == 0 {
		t.Error("there was no rollback, so that this shows nothing")
	}
}

// TestWhatIsSaidOfAServerThatCannotBeHad, in one line, without the password.
func TestWhatIsSaidOfAServerThatCannotBeHad(t *testing.T) {
	proxy := newProxy(t)
	for url, want := range map[string][]string{
		"postgres://tokend@127.0.0.1:1,127.0.0.1:2/tokens": {
			`open database "tokens" on 127.0.0.1:1, 127.0.0.1:2: no connection to PostgreSQL, or to the pooler before it; is it running where [store] url (or direct_url) says`, "firewall", "connection refused",
		},
		"postgres:///tokens?user=tokend&host=/nowhere":                      {"on /nowhere/.s.PGSQL.5432: no connection to PostgreSQL, or to the pooler before it; is it running", "no such file"},
		"postgres://tokend@no..name/tokens":                                 {"no connection to PostgreSQL", "does this machine know each name there (DNS, /etc/hosts)"},
		"postgres://tokend@127.0.0.1:1,no..name/tokens":                     {"no connection to PostgreSQL", "does this machine know each name there", "connection refused"},
		urlBy("nowhere", proxy):                                             {"the server has no such database; make it (createdb)"},
		"postgres://tokend@" + proxy.Addr() + "/postgres?sslmode=require":   {"TLS with PostgreSQL fails", "does the server have TLS (ssl=on)"},
		"postgres://somebody@" + proxy.Addr() + "/postgres?sslmode=disable": {"the server doesn't admit this user from here"},
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: url, Password: func() (string, error) { return "hunter2", nil }})
		if err == nil || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if said := strings.Split(err.Error(), "; "); len(said) != len(slices.Compact(slices.Sorted(slices.Values(said)))) {
			t.Errorf("%s: it repeats itself: %v", url, err)
		}
		for _, words := range want {
			if !strings.Contains(err.Error(), words) {
				t.Errorf("%s: %v; want %s", url, err, words)
			}
		}
	}
}

// TestHeardIsUntilWhenItWasAsked, not when the answer came.
func TestHeardIsUntilWhenItWasAsked(t *testing.T) {
	t.Parallel()
	long(t)
	const late = 500 * time.Millisecond
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	proxy.Delay(func(fromClient bool, _ []byte) time.Duration {
		if fromClient {
			return 0
		}
		return late
	})
	told(t, s)
	var last time.Time
	for range 3 {
		await(t, "something new", func() bool {
			heard := s.Heard()
			if heard.IsZero() || !heard.After(last) {
				return false
			}
			if ago := time.Since(heard); ago < late {
				t.Errorf("it was asked %s ago, and the answer takes %s", ago, late)
			}
			last = heard
			return true
		})
	}
}

// TestAnswerThatComesLateIsAsOldAsItsQuestion: what was changed while it was on its way is not
// in it. Each takes longer here than what was heard is believed.
func TestAnswerThatComesLateIsAsOldAsItsQuestion(t *testing.T) {
	t.Parallel()
	const timeline = "00000001" // is in what the server says of its newest change, and in nothing else
	for what, revoked := range map[string]bool{"nothing is new": false, "a token was revoked": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			database, proxy := newName(t, "current"), newProxy(t)
			s, past := open(t, urlBy(database, proxy)), open(t, server.URL(database))
			r := mint(t, past)
			heard := told(t, s)
			await(t, "the first answer", s.Hears)
			t.Cleanup(proxy.Cut) // or the end waits for an answer
			var answers atomic.Int64
			proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
				if fromClient || !bytes.Contains(chunk, []byte(timeline)) {
					return 0
				}
				answers.Add(1)
				return postgres.Deaf + 500*time.Millisecond
			})
			if revoked {
				revoke(t, past, token.Selection{ID: r.ID})
			}
			await(t, "an answer that is held back", func() bool { return answers.Load() > 0 })
			await(t, "the silence to be known", func() bool { return !s.Hears() })
			inDoubt := func(until string, is func() bool) {
				await(t, until, func() bool {
					if s.Hears() {
						t.Fatal("an answer is believed from when it came")
					}
					return is()
				})
			}
			if revoked {
				inDoubt("the revocation", func() bool { return len(heard) > 0 })
			}
			before := answers.Load()
			inDoubt("the next question", func() bool { return answers.Load() > before })
		})
	}
}

// TestAServerWithoutAnAnswerIsTold, with what to look at.
func TestAServerWithoutAnAnswerIsTold(t *testing.T) {
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	check(s.Ping(t.Context()))
	t.Cleanup(proxy.Cut) // or the end waits for an answer
	proxy.Hang()
	_, err := s.Lookup(t.Context(), token.Mint().Digest())
	wantSentence(t, "a look-up", err, "no answer from PostgreSQL, or from the pooler before it; does it hang, is it overloaded")
}

// TestAChangeThatWaitsForAStandbyIsTold with all that it is about, which is no more believed, however often it is made again;
// and it is done once there is an answer.
func TestAChangeThatWaitsForAStandbyIsTold(t *testing.T) {
	t.Parallel()
	long(t)
	own, err := servers.StartPostgreSQL("fsync=off")
	check(err)
	t.Cleanup(func() { check(own.Stop()) })
	s := open(t, own.URL("postgres"))
	r := mint(t, s)
	waitFor := func(standbys string) {
		check(own.Exec(t.Context(), `ALTER SYSTEM SET synchronous_standby_names = '`+standbys+`'`))
		check(own.Exec(t.Context(), `SELECT pg_reload_conf()`))
	}
	revokeIt := func() error {
		records, err := s.Revoke(t.Context(), token.Selection{ID: r.ID}, created, token.Event{At: created, Action: token.TokenRevoked})
		if len(records) != 1 || records[0].Digest != r.Digest {
			t.Errorf("a revoke is told of %v", records)
		}
		return err
	}
	waitFor("*")
	await(t, "a commit that waits", func() bool { return s.Mint(t.Context(), newRecord(), token.Quota{}, token.Event{At: created}) != nil })
	const waits = "no answer to the commit, for which PostgreSQL may wait for a standby that is away (synchronous_standby_names)"
	digests, changed, err := s.SetDisabled(t.Context(), r.Owner, true, created, token.Event{At: created, Action: token.UserDisabled})
	wantSentence(t, "a disabling", err, waits)
	if !changed || !slices.Contains(digests, r.Digest) {
		t.Errorf("a disabling is told of %v, and whether it changes anything: %t", digests, changed)
	}
	for range 2 {
		wantSentence(t, "a revoke", revokeIt(), waits)
	}
	waitFor("")
	await(t, "an answer", func() bool { return revokeIt() == nil })
	if got, err := s.Lookup(t.Context(), r.Digest); err != nil || got.Revoked.IsZero() {
		t.Errorf("looked up: revoked %s, %v", got.Revoked, err)
	}
}

// TestAChangeMeetsEachBrokenConnectionOnce, and is made with another: nobody was told that they
// broke.
func TestAChangeMeetsEachBrokenConnectionOnce(t *testing.T) {
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	for range 5 {
		var changes sync.WaitGroup // so that there is more than one connection for them
		for range 5 {
			changes.Go(func() { mint(t, s) })
		}
		changes.Wait()
		proxy.Cut()
		proxy.Heal()
		time.Sleep(200 * time.Millisecond)
		mint(t, s)
	}
}
