package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
)

// TestRedisIsFoundByEveryURL: a daemon for each, which keeps a record there.
func TestRedisIsFoundByEveryURL(t *testing.T) {
	t.Parallel()
	postgres, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	stop := func(stop func() error) {
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
	withTLS, err := servers.StartRedisWithTLS("requirepass of-all")
	if err != nil {
		t.Fatal(err)
	}
	stop(withTLS.Stop)
	set, err := servers.StartRedisSentinel("requirepass of-the-set", "masterauth of-the-set")
	if err != nil {
		t.Fatal(err)
	}
	stop(set.Stop)
	primary, err := set.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := servers.StartRedisCluster("user tokend on >of-tokend ~tokend:* resetchannels -@all +ping +hello +auth +client|setname +get +set +evalsha +eval +cluster|slots")
	if err != nil {
		t.Fatal(err)
	}
	stop(cluster.Stop)
	for _, c := range []struct {
		url, password, more string
		servers             []*servers.Redis
	}{
		{"rediss://" + withTLS.Addr() + "/3", "of-all", fmt.Sprintf("ca_file = %q", withTLS.Certificate()), []*servers.Redis{withTLS}},
		{"redis+sentinel://" + strings.Join(set.Addrs(), ",") + "/" + set.Name(), "of-the-set", "", []*servers.Redis{primary}},
		{"redis+cluster://tokend@" + strings.Join(cluster.Addrs()[:2], ","), "of-tokend", "", cluster.Nodes()},
	} {
		site := newSite(t, "[cache]", fmt.Sprintf("url = %q", c.url), c.more)
		password := write(t, site, "redis.password", c.password+"\n")
		reconfigure(t, site, "[cache]", fmt.Sprintf("[cache]\npassword_file = %q", password))
		database, err := postgres.NewDatabase(t.Context(), "template0")
		if err != nil {
			t.Fatal(err)
		}
		reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), postgres.URL(database))
		start(t, site)
		n := &node{site: site, admin: adminOf(site)}
		n.waitReady(t)
		made := n.mustCreate(t, "alice")
		if yes, reason, err := n.check("alice", made.Secret); !yes {
			t.Errorf("%s: %s %v", c.url, reason, err)
		}
		for begun := time.Now(); countKeys(t, c.servers) != 1; time.Sleep(100 * time.Millisecond) { // what it was tried with ends soon
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("%s: %d keys, want the record's", c.url, countKeys(t, c.servers))
			}
		}
	}
}

// countKeys counts those of the servers' databases.
func countKeys(t *testing.T, all []*servers.Redis) (n int) {
	t.Helper()
	for _, server := range all {
		info, err := server.Exec(t.Context(), "INFO", "keyspace")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(info.(string)) {
			var database, keys int
			if read, _ := fmt.Sscanf(line, "db%d:keys=%d,", &database, &keys); read == 2 {
				n += keys
			}
		}
	}
	return n
}
