package servers

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// RedisCluster is three primaries that share the keys.
type RedisCluster struct {
	nodes []*Redis
	tls   bool
}

// StartRedisCluster starts them. The settings are those of all, whatever starts them.
func StartRedisCluster(settings ...string) (*RedisCluster, error) {
	return (&RedisCluster{}).start(settings)
}

// StartRedisClusterWithTLS starts them so that all are reached by TLS alone.
func StartRedisClusterWithTLS(settings ...string) (*RedisCluster, error) {
	return (&RedisCluster{tls: true}).start(settings)
}

func (c *RedisCluster) start(settings []string) (*RedisCluster, error) {
	if err := c.begin(settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start a cluster of Redis: %w", err), c.Stop())
	}
	return c, nil
}

func (c *RedisCluster) begin(settings []string) error {
	settings = append([]string{"cluster-enabled yes", "cluster-node-timeout 1000"}, settings...)
	shares := [][]any{{0, 5460}, {5461, 10922}, {10923, 16383}}
	for i, share := range shares {
		node, err := (&Redis{tls: c.tls, like: c.first(), own: settings}).begin(nil)
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, node)
		for _, command := range [][]any{
			{"CLUSTER", "SET-CONFIG-EPOCH", i + 1}, // or each begins with the same, and they quarrel
			append([]any{"CLUSTER", "ADDSLOTSRANGE"}, share...),
			{"CLUSTER", "MEET", "127.0.0.1", c.nodes[0].port},
		} {
			if _, err := node.Exec(context.Background(), command...); err != nil {
				return fmt.Errorf("%v: %w", command, err)
			}
		}
	}
	for _, node := range c.nodes {
		if err := node.process.await(node.inCluster); err != nil {
			return err
		}
	}
	return nil
}

// inCluster asks a node whether it sees all three and every slot.
func (r *Redis) inCluster(ctx context.Context) error {
	answer, err := r.Exec(ctx, "CLUSTER", "INFO")
	if err != nil {
		return err
	}
	info := fmt.Sprint(answer)
	for _, want := range []string{"cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3"} {
		if !strings.Contains(info, want+"\r\n") {
			return fmt.Errorf("the cluster is not complete: %s", info)
		}
	}
	return nil
}

func (c *RedisCluster) first() *Redis {
	if len(c.nodes) == 0 {
		return nil
	}
	return c.nodes[0]
}

// Certificate is the file with the one that all show, with TLS.
func (c *RedisCluster) Certificate() string { return c.first().Certificate() }

// Addrs are where the nodes listen.
func (c *RedisCluster) Addrs() []string { return addrs(c.nodes) }

// Nodes are its servers, each with a third of the slots, from the lowest to the highest.
func (c *RedisCluster) Nodes() []*Redis { return c.nodes }

// Stop ends all of them and removes what they had.
func (c *RedisCluster) Stop() error { return stopAll(c.nodes) }
