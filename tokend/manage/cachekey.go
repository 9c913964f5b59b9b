package manage

import (
	"context"
	"errors"
	"fmt"

	"tokend/tokend/token"
)

// RotateCacheKey replaces the key by which a cache that several daemons share is sealed.
// Nobody is logged out by it. ErrInvalid: there is no such cache.
func (m *Manager) RotateCacheKey(ctx context.Context, actor string) error {
	if m.rotate == nil {
		return invalid(errors.New("there is no key to rotate: the cache is in this daemon's memory ([cache] url)"))
	}
	err := m.rotate(ctx, token.Event{At: token.Time(m.now()), Actor: actor, Action: token.CacheRotated})
	if unanswered(err) {
		return fmt.Errorf("%w; it may have been replaced all the same: do it again until there is an answer, by which nobody is logged out", err)
	}
	if err != nil {
		return err
	}
	m.log.InfoContext(ctx, "cache key rotated", "by", actor)
	return nil
}
