package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tokend/cache"
	"tokend/config"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// openCache opens the configured cache: in this process, or in the Redis that all daemons
// over the store share.
func (n *node) openCache(ctx context.Context) (records verify.Cache, tier string, err error) {
	cfg := n.cfg.Cache
	if !config.IsRedis(cfg.URL) {
		records, err = cache.NewMemory(cfg.Entries)
		return records, "memory", err
	}
	s, ok := n.store.(shared)
	if !ok {
		return nil, "", errors.New("[cache] url: a Redis is for several daemons over a PostgreSQL database")
	}
	kept, err := s.CacheKeys(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read the keys of the cache: %w", err)
	}
	address, err := redisAddress(n.log, cfg)
	if err != nil {
		return nil, "", err
	}
	n.redis, err = cache.NewRedis(cache.RedisConfig{
		Address: address, Keys: asKeys(kept, cfg.TTL+cfg.Stale), Logger: n.log, Registerer: n.registry, Now: s.Now,
	})
	if err != nil { // which names the key or the file
		return nil, "", err
	}
	return n.redis, "redis", nil
}

// redisAddress is where the configured Redis is.
func redisAddress(log *slog.Logger, cfg config.Cache) (cache.Address, error) {
	url, err := config.ParseRedis(cfg.URL)
	if err != nil {
		return cache.Address{}, fmt.Errorf("[cache] url: %w", err)
	}
	return cache.Address{
		Servers: url.Servers, Sentinel: url.Set, Cluster: url.Kind == "cluster",
		User: url.User, Database: url.Database, TLS: url.TLS,
		Password:         passwordIn(log, "[cache] password_file", cfg.PasswordFile),
		SentinelPassword: passwordIn(log, "[cache] sentinel_password_file", cfg.SentinelPasswordFile),
		CAFile:           cfg.CAFile, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile,
	}, nil
}

// asKeys are the cache's secrets as the store keeps them. The key that sealed before the newest
// opens as long as something that it has sealed may be believed.
func asKeys(kept []postgres.CacheKey, life time.Duration) (keys cache.Keys) {
	var until time.Time
	for _, k := range kept {
		if k.Number == 0 {
			keys.Name = k.Secret
			continue
		}
		keys.Seals = append(keys.Seals, cache.Seal{Number: k.Number, Key: k.Secret, Until: until})
		until = k.Created.Add(life)
	}
	return keys
}

// heard is told of the changes by all daemons. That a shared cache cannot be told of them
// too is no reason not to hear on: it is told later.
func (n *node) heard(ctx context.Context, digests ...token.Digest) error {
	if err := n.verifier.Forget(ctx, digests...); err != nil && !errors.Is(err, cache.ErrPending) {
		return err
	}
	return nil
}

// takeKeys is told the keys of the shared cache after each change, of which one may be theirs.
func (n *node) takeKeys(ctx context.Context, kept []postgres.CacheKey) {
	settings := n.verifier.Settings()
	defer n.newestKey.Store(kept[0].Number)
	if n.redis.SetKeys(asKeys(kept, settings.TTL+settings.Stale)) {
		n.log.InfoContext(ctx, "keys of the cache are replaced")
	}
}

// rotateKey replaces the key that seals, and goes by the new one when it returns. It does not
// where changes are not heard of: the next ones would not be, either.
func (n *node) rotateKey(ctx context.Context, event token.Event) error {
	s := n.store.(shared)
	if err := s.WatchErr(); err != nil {
		return fmt.Errorf("the key is not replaced while this daemon does not hear of changes, because it would not hear of the next key either; once /readyz says ready, try again: %s", err.Error()) // that there was no answer is not this change's
	}
	n.rotating.Lock()
	defer n.rotating.Unlock()
	n.newestKey.Store(0) // whatever was heard before: a backup may have been put back
	newest, err := s.RotateCacheKey(ctx, event)
	if err != nil {
		return err
	}
	// Only who hears of changes takes keys over, so that nobody goes back to older ones.
	for begun := time.Now(); n.newestKey.Load() < newest; {
		if time.Since(begun) > postgres.Deaf {
			return errors.New("the key is replaced, and this daemon goes by the one before until it hears of that, as it does by itself when /readyz says ready; there is no need to replace it again")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// forget is told of a change by this daemon, which is reported done when it returns. Where
// the shared cache could not be told, or others may look elsewhere, they hear of it from the
// store within that time, or believe nothing any more that they cannot ask it.
func (n *node) forget(ctx context.Context, digests ...token.Digest) error {
	err := n.verifier.Forget(ctx, digests...)
	if !errors.Is(err, cache.ErrPending) {
		return err
	}
	n.log.WarnContext(ctx, "a change waits until all daemons know of it from the database: they may not see it in the cache yet", "err", err)
	time.Sleep(postgres.Deaf)
	return nil
}
