package cache

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// primary notes which server the Sentinels name, when a connection to it is made.
type primary struct{ atomic.Pointer[string] }

// DialHook implements redis.Hook.
func (p *primary) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := next(ctx, network, address)
		where := "" // which the error says
		if err == nil {
			where = conn.RemoteAddr().String()
		}
		p.Store(&where)
		return conn, err
	}
}

// ProcessHook implements redis.Hook.
func (p *primary) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (p *primary) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
