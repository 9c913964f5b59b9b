package cache

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// newClient is the client for one server, or a Cluster's. Of a Cluster's servers
// it would ask with each command what they know of commands (COMMAND), as long as none says so:
// that is not in the time of the command, and all that tokend sends has its key where others do.
func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	if !o.IsClusterMode {
		return redis.NewUniversalClient(o)
	}
	cluster := o.Cluster()
	cluster.DisableRoutingPolicies = true
	cluster.NewClient = func(o *redis.Options) *redis.Client {
		one := redis.NewClient(o)
		one.AddHook(hurry{})
		return one
	}
	return redis.NewClusterClient(cluster)
}

// slotsTimeout is for one server of a Cluster to say which has which keys.
const slotsTimeout = 200 * time.Millisecond

// hurry is for the question which server has which keys (CLUSTER SLOTS). The client asks one
// after the other, in any order, and one that hangs would use up the time of what is to come.
type hurry struct{}

// ProcessHook implements the client's Hook.
func (hurry) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "cluster" {
			within, cancel := context.WithTimeout(ctx, slotsTimeout)
			defer cancel()
			ctx = within
		}
		return next(ctx, cmd)
	}
}

// DialHook implements the client's Hook.
func (hurry) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook implements the client's Hook.
func (hurry) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// servers are those that were asked, in order.
type servers struct {
	mu    sync.Mutex
	names []string
}

func (s *servers) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearch(s.names, name)
	s.names = slices.Insert(s.names, i, name)
}
