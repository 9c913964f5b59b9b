package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// RedisCluster is three primaries that share the keys.
type RedisCluster struct {
	nodes []*Redis
	tls   bool

	replicas []*Redis
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

// AddReplica starts one of the first primary, which stays even if it takes that one's place.
func (c *RedisCluster) AddReplica() (replica *Redis, err error) {
	replica, err = (&Redis{tls: c.tls, like: c.first(), own: c.first().own}).begin(nil)
	if err != nil {
		return nil, fmt.Errorf("start a replica: %w", err)
	}
	c.replicas = append(c.replicas, replica)
	ctx := context.Background()
	id, err := c.first().Exec(ctx, "CLUSTER", "MYID")
	if err == nil {
		_, err = replica.Exec(ctx, "CLUSTER", "MEET", "127.0.0.1", c.first().port)
	}
	if err != nil {
		return nil, fmt.Errorf("start a replica: %w", err)
	}
	return replica, errors.Join(
		replica.process.await(func(ctx context.Context) error { // until it has heard of that one
			_, err := replica.Exec(ctx, "CLUSTER", "REPLICATE", id)
			return err
		}),
		replica.process.await(func(ctx context.Context) error {
			info, err := replica.Exec(ctx, "INFO", "replication")
			if err == nil && !strings.Contains(fmt.Sprint(info), "master_link_status:up") {
				err = errors.New("it has not all of its primary yet")
			}
			return err
		}),
	)
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
func (c *RedisCluster) Stop() error { return stopAll(slices.Concat(c.replicas, c.nodes)) }
