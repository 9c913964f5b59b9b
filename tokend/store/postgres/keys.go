package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// CacheKey is a secret of the cache that the daemons share.
type CacheKey struct {
	Number  uint32 // 0: the one that makes the names of its entries; else one that seals them
	Secret  [32]byte
	Created time.Time
}

// Format writes the number alone, whatever the verb.
func (k CacheKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "cache key %d", k.Number) }

// keptKeys is how many that seal there are at most: the one that does, and the one that
// did before.
const keptKeys = 2

// CacheKeys returns the secrets of the shared cache, the newest first and number 0 last.
// The first who asks makes them; if there are only some, it is an error. It waits for no pooler,
// which may lead elsewhere.
func (s *Store) CacheKeys(ctx context.Context) ([]CacheKey, error) {
	return do(ctx, s, store.CacheKeys, func(ctx context.Context) (keys []CacheKey, err error) {
		conn, err := s.connect(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = hangUp(ctx, conn) }() // what was read holds all the same
		return cacheKeys(ctx, conn)
	})
}

func cacheKeys(ctx context.Context, db *pgx.Conn) ([]CacheKey, error) {
	keys, err := query(ctx, db, scanKey, selectKeys)
	switch {
	case err != nil:
		return nil, err
	case len(keys) > 0:
		return keys, whole(keys)
	}
	// Of two who make them, the second waits for the first and finds them there.
	if _, err := db.Exec(ctx, `INSERT INTO cache_keys (number, secret, created)
		VALUES (0, $1, clock_timestamp()), (1, $2, clock_timestamp()) ON CONFLICT DO NOTHING`, newSecret(), newSecret()); err != nil {
		return nil, err
	}
	if keys, err = query(ctx, db, scanKey, selectKeys); err != nil {
		return nil, err
	}
	return keys, whole(keys)
}

// tellKeys reads them by the connection that hears of changes, which no pooler holds up. A
// backup that was put back may have none.
func tellKeys(ctx context.Context, conn *pgx.Conn, tell TakeKeys) error {
	return server.Within(ctx, otherTimeout, func(ctx context.Context) error {
		keys, err := cacheKeys(ctx, conn)
		if err != nil {
			return fmt.Errorf("read the keys of the cache: %w", err)
		}
		tell(ctx, keys)
		return nil
	})
}

const selectKeys = `SELECT number, secret, created FROM cache_keys ORDER BY number DESC`

// whole says what is missing where rows were lost. Made anew, a key would be another than
// that of the daemons that run.
func whole(keys []CacheKey) error {
	const remedy = "restore it, or stop all daemons, delete all its rows, and start them, which makes new ones"
	switch {
	case len(keys) == 0 || keys[len(keys)-1].Number != 0:
		return errors.New("the table cache_keys lacks number 0, which makes the names of the cache's entries: " + remedy)
	case len(keys) == 1:
		return errors.New("the table cache_keys lacks a number above 0, which seals the cache's entries: " + remedy)
	}
	return nil
}

// RotateCacheKey makes a new key that seals, writes the event, and returns the key's number. The
// one before still opens; older ones are removed.
func (s *Store) RotateCacheKey(ctx context.Context, event token.Event) (newest uint32, err error) {
	return write(ctx, s, store.RotateCacheKey, func(ctx context.Context, tx pgx.Tx) (newest uint32, err error) {
		if err := insertEvent(ctx, tx, event); err != nil { // which has one rotate after another
			return 0, err
		}
		if err := tx.QueryRow(ctx, `INSERT INTO cache_keys (number, secret, created)
			SELECT coalesce(max(number), 0) + 1, $1, clock_timestamp() FROM cache_keys RETURNING number`, newSecret()).Scan(&newest); err != nil {
			return 0, err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM cache_keys WHERE number > 0 AND number <= $1`, int64(newest)-keptKeys); err != nil {
			return 0, err
		}
		keys, err := query(ctx, tx, scanKey, selectKeys)
		if err == nil {
			err = whole(keys) // or this one alone would keep CacheKeys from making all
		}
		if err != nil {
			return 0, err
		}
		return newest, notify(ctx, tx)
	})
}

func newSecret() []byte {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return secret
}

func scanKey(r pgx.CollectableRow) (key CacheKey, err error) {
	var secret []byte
	if err := r.Scan(&key.Number, &secret, (*instant)(&key.Created)); err != nil {
		return CacheKey{}, err
	}
	if len(secret) != len(key.Secret) {
		return CacheKey{}, fmt.Errorf("%v has another length", key)
	}
	copy(key.Secret[:], secret)
	return key, nil
}
