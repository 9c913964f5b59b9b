package knox_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/store/knox"
	"tokend/tokend/token"
)

// TestTokensAreFoundByWhatKnoxKeeps, as a role that may read nothing else.
func TestTokensAreFoundByWhatKnoxKeeps(t *testing.T) {
	forEachSite(t, func(t *testing.T, s *site) {
		alice, bob := s.User("alice@CHARITE"), s.User("bob")
		forever, soon := s.Mint(alice), knoxtest.NewToken()
		expiry := time.Date(2031, time.March, 4, 5, 6, 7, 891_234_000, time.UTC)
		s.Keep(soon, bob, expiry)
		s.Exec(`UPDATE `+s.Users+` SET is_active = false WHERE id = $1`, bob)
		store := s.open(t)
		scheme, err := store.Scheme()
		check(err)
		if scheme != s.Scheme {
			t.Errorf("the scheme is %q", scheme)
		}
		got, err := store.LookupAll(t.Context(), s.Digest(forever), s.Digest(soon), s.Digest(knoxtest.NewToken()))
		check(err)
		want := map[token.Digest]token.Record{}
		for secret, r := range map[token.Knox]token.Record{
			forever: {Owner: "alice@CHARITE"}, soon: {Owner: "bob", OwnerDisabled: true, Expires: expiry},
		} {
			r.Digest, r.Scheme, r.Hint, r.ID = s.Digest(secret), s.Scheme, secret.Hint(), "knox-"+secret.Hint()
			want[r.Digest] = r
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if _, err := s.find(t, store, knoxtest.NewToken()); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("one that there is not: %v", err)
		}
	})
}

// TestFrozenRowsOfRealKnoxAreFound: the vectors, as the table has them.
func TestFrozenRowsOfRealKnoxAreFound(t *testing.T) {
	forEachSite(t, func(t *testing.T, s *site) {
		alice := s.User("alice")
		store := s.open(t)
		n := 0
		for _, v := range vectors(t) {
			if v.scheme != s.Scheme {
				continue
			}
			n++
			columns, values := "digest, token_key, user_id", "$1, $2, $3"
			if s.Tokens == "tokens_sodarauthtoken" {
				columns, values = columns+", sodar_label", values+", ''"
			}
			s.Exec(`INSERT INTO `+s.Tokens+` (`+columns+`) VALUES (`+values+`)`, v.digest, v.key, alice)
			r, err := s.find(t, store, v.secret)
			if err != nil || r.Owner != "alice" || r.Digest.String() != v.digest || r.Hint != v.secret.Hint()[:len(r.Hint)] || len(r.Hint) < 5 {
				t.Errorf("%s: %+v, %v", v.key, r, err)
			}
		}
		if n < 3 {
			t.Errorf("there are only %d", n)
		}
	})
}

// TestExpiryIsKeptToTheMicrosecond, and what is infinite is one or the other.
func TestExpiryIsKeptToTheMicrosecond(t *testing.T) {
	s := newSite(t, "sodar-1.3")
	alice, store := s.User("alice"), s.open(t)
	now := token.Time(store.Now())
	for expiry, active := range map[string]bool{
		now.Add(time.Hour).Format(time.RFC3339Nano): true, now.Add(-time.Microsecond).Format(time.RFC3339Nano): false,
		"infinity": true, "-infinity": false, "0001-01-01 00:00:00 BC": false, "0001-01-01 00:00:00+00": false, "294276-12-31 23:59:59.999999+00": true,
	} {
		secret := knoxtest.NewToken()
		s.Keep(secret, alice, nil)
		s.Exec(`UPDATE `+s.Tokens+` SET expiry = $1::text::timestamptz WHERE digest = $2`, expiry, s.Digest(secret).String())
		r, err := s.find(t, store, secret)
		if err != nil || (r.StateAt(now, token.Forever) == token.Active) != active {
			t.Errorf("%s: %s, %v", expiry, r.StateAt(now, token.Forever), err)
		}
		if _, err := r.Expires.MarshalText(); err != nil { // no cache could keep it
			t.Errorf("%s: %v", expiry, err)
		}
	}
	secret, expiry := knoxtest.NewToken(), token.Time(now.Add(time.Minute))
	s.Keep(secret, alice, expiry)
	r, err := s.find(t, store, secret)
	check(err)
	for at, want := range map[time.Time]token.State{
		expiry.Add(-time.Microsecond): token.Active, expiry: token.Active, expiry.Add(time.Microsecond): token.Expired,
	} {
		if got := r.StateAt(at, token.Forever); got != want {
			t.Errorf("%s after: %s, want %s", at.Sub(expiry), got, want)
		}
	}
}

// TestTwoUsersMayShareATokenKey, and each has a token of their own.
func TestTwoUsersMayShareATokenKey(t *testing.T) {
	forEachSite(t, func(t *testing.T, s *site) {
		store := s.open(t)
		owners := map[token.Knox]string{s.Mint(s.User("alice")): "alice", s.Mint(s.User("bob")): "bob"}
		s.Exec(`UPDATE ` + s.Tokens + ` SET token_key = 'abcdef01'`)
		for secret, owner := range owners {
			if r, err := s.find(t, store, secret); err != nil || r.Owner != owner {
				t.Errorf("%s, %v, want %s", r.Owner, err, owner)
			}
		}
	})
}

// TestAUserWhoIsRenamedOrDeletedIsThatAtOnce.
func TestAUserWhoIsRenamedOrDeletedIsThatAtOnce(t *testing.T) {
	s := newSite(t, "sodar-1.3")
	alice := s.User("alice")
	secret, store := s.Mint(alice), s.open(t)
	s.Exec(`UPDATE users_user SET username = 'alicia', is_active = false`)
	if r, err := s.find(t, store, secret); err != nil || r.Owner != "alicia" || !r.OwnerDisabled {
		t.Errorf("%+v, %v", r, err)
	}
	s.Exec(`DELETE FROM tokens_sodarauthtoken`)
	s.Exec(`DELETE FROM users_user`)
	if _, err := s.find(t, store, secret); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// TestNothingIsEverWritten, not even by a role that may.
func TestNothingIsEverWritten(t *testing.T) {
	forEachSite(t, func(t *testing.T, s *site) {
		secret, store := s.Mint(s.User("alice")), s.open(t)
		s.Exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + s.Role)
		s.Exec(`SELECT pg_stat_force_next_flush()`)
		before := s.written()
		for range 20 {
			_, err := s.find(t, store, secret)
			check(err)
			_, err = s.find(t, store, knoxtest.NewToken())
			if !errors.Is(err, token.ErrNotFound) {
				t.Error(err)
			}
			_, err = store.MayLogIn(t.Context(), "alice")
			check(err)
		}
		for _, err := range store.All(t.Context(), nil) {
			check(err)
		}
		check(store.Close())
		time.Sleep(100 * time.Millisecond) // the statistics are written as a session ends
		if after := s.written(); after != before {
			t.Errorf("%d rows were written, and before %d", after, before)
		}
		var read int64
		check(s.Owner().QueryRow(t.Context(), `SELECT sum(idx_scan + seq_scan) FROM pg_stat_user_tables`).Scan(&read))
		if read < 40 {
			t.Errorf("the statistics show only %d reads", read)
		}
	})
}

// written is how many rows of the site's tables were ever written.
func (s *site) written() (n int64) {
	s.Exec(`SELECT pg_stat_clear_snapshot()`)
	check(s.Owner().QueryRow(context.Background(), `SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables`).Scan(&n))
	return n
}

// TestTablesMayBeSetByHand.
func TestTablesMayBeSetByHand(t *testing.T) {
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(`CREATE SCHEMA "Odd one"; GRANT USAGE ON SCHEMA "Odd one" TO ` + s.Role)
	s.Exec(`ALTER TABLE knox_authtoken SET SCHEMA "Odd one"; ALTER TABLE "Odd one".knox_authtoken RENAME TO tok;
		ALTER TABLE "Odd one".tok ALTER token_key TYPE varchar(40);
		ALTER TABLE auth_user RENAME TO accounts; ALTER TABLE accounts RENAME username TO login; ALTER TABLE accounts RENAME is_active TO ok;
		ALTER TABLE accounts RENAME id TO number`)
	store := s.open(t, func(c *knox.Config) {
		c.Tables = knox.Tables{Tokens: "Odd one.tok", Users: "accounts", Username: "login", Active: "ok", Scheme: knox.Knox5}
	})
	if r, err := s.find(t, store, secret); err != nil || r.Owner != "alice" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestAShorterKeyIsKnox5sToo: that of its first versions.
func TestAShorterKeyIsKnox5sToo(t *testing.T) {
	s := newSite(t, "knox-5")
	secret := s.Mint(s.User("alice"))
	s.Exec(`ALTER TABLE knox_authtoken ALTER token_key TYPE varchar(15) USING left(token_key, 15)`)
	store := s.open(t)
	if scheme, err := store.Scheme(); err != nil || scheme != token.Knox5 {
		t.Errorf("the scheme is %q, %v", scheme, err)
	}
	if r, err := s.find(t, store, secret); err != nil || r.Owner != "alice" || r.Hint != secret.Hint() {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestTokensFromBeforeAnUpgradeAreKnown as what they are: Knox 5 has taken the table over, and cannot read them.
func TestTokensFromBeforeAnUpgradeAreKnown(t *testing.T) {
	t.Parallel()
	s := newSite(t, "knox-5")
	alice := s.User("alice")
	before, after := knoxtest.NewToken(), s.Mint(alice)
	old, _ := before.Digest(token.Knox4)
	s.Exec(`INSERT INTO knox_authtoken (digest, token_key, user_id) VALUES ($1, $2, $3)`, old.String(), before.Reveal()[:8], alice)
	store := s.open(t)
	schemes := map[token.Digest]token.Scheme{}
	for r, err := range store.All(t.Context(), nil) {
		check(err)
		schemes[r.Digest] = r.Scheme
	}
	if diff := cmp.Diff(map[token.Digest]token.Scheme{old: token.Knox4, s.Digest(after): token.Knox5}, schemes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestSilentConnectionsCostNoLogin: what is sent on those that there are gets lost, and new ones pass.
func TestSilentConnectionsCostNoLogin(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sodar-1.3")
	secret := s.Mint(s.User("alice"))
	store, proxy := s.openByProxy(t)
	for range 2 {
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, err := s.find(t, store, secret); err != nil {
					t.Error(err)
				}
			})
			if i == 9 {
				all.Wait()
				proxy.Lose()
			}
		}
		all.Wait()
		time.Sleep(3 * time.Second)
	}
}
