package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// inBothWays runs the test with what opens one database again and again: the server itself,
// and through a pooler.
func inBothWays(t *testing.T, test func(t *testing.T, open func() *postgres.Store, url string)) {
	t.Helper()
	t.Run("directly", func(t *testing.T) {
		url := newDatabase(t, "current")
		test(t, func() *postgres.Store { return open(t, url) }, url)
	})
	t.Run("through a pooler", func(t *testing.T) {
		name, pooler := newName(t, "current"), newPooler(t, server)
		test(t, func() *postgres.Store { return openPooled(t, pooler, server, name) }, server.URL(name))
	})
}

// keysOf are the keys, which are to have these numbers.
func keysOf(t *testing.T, s *postgres.Store, numbers ...uint32) []postgres.CacheKey {
	t.Helper()
	keys, err := s.CacheKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, k := range keys {
		got = append(got, k.Number)
	}
	if diff := cmp.Diff(numbers, got); diff != "" {
		t.Fatalf("numbers of the keys (-want +got):\n%s", diff)
	}
	return keys
}

func rotate(t *testing.T, s *postgres.Store) {
	t.Helper()
	newest, err := s.RotateCacheKey(t.Context(), token.Event{At: created, Actor: "uid=0(root)", Action: token.CacheRotated})
	if err != nil {
		t.Error(err)
	}
	if keys, err := s.CacheKeys(t.Context()); err != nil || keys[0].Number < newest { // others may follow
		t.Errorf("the newest is %d, %v, want %d", keys[0].Number, err, newest)
	}
}

// TestAllWhoAskFirstGetTheSameKeys: with others, none could read what another has sealed.
func TestAllWhoAskFirstGetTheSameKeys(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, _ string) {
		stores := make([]*postgres.Store, 10)
		for i := range stores {
			stores[i] = open()
			check(stores[i].Ping(t.Context()))
		}
		got := make([][]postgres.CacheKey, len(stores))
		var asking sync.WaitGroup
		for i, s := range stores {
			asking.Go(func() {
				var err error
				if got[i], err = s.CacheKeys(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		want := keysOf(t, stores[0], 1, 0)
		for i := range got {
			if !cmp.Equal(got[i], want) {
				t.Errorf("store %d got other keys", i)
			}
		}
		if want[0].Secret == want[1].Secret || want[0].Secret == [32]byte{} || want[1].Secret == [32]byte{} {
			t.Error("the secrets are the same, or none")
		}
	})
}

// TestTwoRotationsThrowAKeyAway: the one before the newest stays, and the one for names
// for ever.
func TestTwoRotationsThrowAKeyAway(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, _ string) {
		one, other := open(), open()
		first := keysOf(t, one, 1, 0)
		rotate(t, one)
		second := keysOf(t, other, 2, 1, 0)
		if !cmp.Equal(second[1:], first) {
			t.Error("the keys from before are others after a rotation")
		}
		rotate(t, other)
		third := keysOf(t, one, 3, 2, 0)
		if third[1] != second[0] || third[2] != first[1] {
			t.Error("the keys from before are others after two rotations")
		}
		if third[0].Secret == third[1].Secret || third[1].Secret == first[0].Secret {
			t.Error("a new key is an old one")
		}
		rotate(t, one)
		if fourth := keysOf(t, one, 4, 3, 0); fourth[2] != first[1] {
			t.Error("the key for names was replaced")
		}
		events, err := one.Events(t.Context(), token.EventPage{Limit: 10})
		check(err)
		want := token.Event{At: created, Actor: "uid=0(root)", Action: token.CacheRotated}
		if len(events) != 3 {
			t.Fatalf("the audit trail has %d entries, want one for each rotation", len(events))
		}
		for _, e := range events {
			if want.Number = e.Number; !cmp.Equal(e, want) {
				t.Errorf("the audit trail has %+v", e)
			}
		}
	})
}

// TestRotationsAtOnceFollowOneAnother, whichever daemon was asked.
func TestRotationsAtOnceFollowOneAnother(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, _ string) {
		stores := []*postgres.Store{open(), open()}
		keysOf(t, stores[0], 1, 0)
		var rotating sync.WaitGroup
		for i := range 10 {
			rotating.Go(func() { rotate(t, stores[i%2]) })
		}
		rotating.Wait()
		keysOf(t, stores[1], 11, 10, 0)
	})
}

// TestKeysThatAreLostAreSaidSo: without them nothing in the cache could be found or opened,
// and made anew they would be others than those of the daemons that run.
func TestKeysThatAreLostAreSaidSo(t *testing.T) {
	inBothWays(t, func(t *testing.T, open func() *postgres.Store, url string) {
		for lost, want := range map[string]string{
			`number = 0`: "the table cache_keys lacks number 0, which makes the names of the cache's entries: restore it, or stop all daemons, delete all its rows, and start them, which makes new ones",
			`number > 0`: "the table cache_keys lacks a number above 0, which seals the cache's entries: restore it, or stop all daemons, delete all its rows, and start them, which makes new ones",
		} {
			s := open()
			run(t.Context(), url, `DELETE FROM cache_keys`)
			keysOf(t, s, 1, 0) // of daemons that were restarted
			run(t.Context(), url, `DELETE FROM cache_keys WHERE `+lost)
			if keys, err := s.CacheKeys(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("without %s: got %d keys, %v", lost, len(keys), err)
			}
		}
		s := open()
		run(t.Context(), url, `DELETE FROM cache_keys`)
		if _, err := s.RotateCacheKey(t.Context(), token.Event{At: created, Action: token.CacheRotated}); err == nil || !strings.Contains(err.Error(), "lacks number 0") {
			t.Errorf("a rotation without any key: %v", err)
		}
		keysOf(t, s, 1, 0) // nothing is left of it
	})
}

// TestKeysArePrintedWithoutTheirSecret, whatever the verb.
func TestKeysArePrintedWithoutTheirSecret(t *testing.T) {
	keys := keysOf(t, open(t, newDatabase(t, "current")), 1, 0)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, keys); got != "[cache key 1 cache key 0]" && got != "[]postgres.CacheKey{cache key 1, cache key 0}" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
