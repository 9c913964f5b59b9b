package e2e

import (
	"fmt"
	"maps"
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
	withTLS, err := servers.StartRedisWithTLS("requirepass of-all")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, withTLS.Stop)
	known, err := servers.StartRedisWithTLS("requirepass of-all", "tls-auth-clients yes")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, known.Stop)
	set, err := servers.StartRedisSentinelWithPassword("of-the-sentinels", "requirepass of-the-set", "masterauth of-the-set")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, set.Stop)
	primary, err := set.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := servers.StartRedisCluster("user tokend on >of-tokend ~tokend:* resetchannels -@all +ping +hello +auth +client|setname +get +set +evalsha +eval +cluster|slots +asking")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, cluster.Stop)
	secureSet, err := servers.StartRedisSentinelWithTLS("requirepass of-the-set", "masterauth of-the-set")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, secureSet.Stop)
	securePrimary, err := secureSet.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	secureCluster, err := servers.StartRedisClusterWithTLS("requirepass of-all")
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, secureCluster.Stop)
	for _, c := range []struct {
		url, password, sentinelPassword string
		database                        int // where the record is
		more                            []string
		servers                         []*servers.Redis
	}{
		{
			url: "rediss://" + withTLS.Addr() + "/3", password: "of-all", database: 3,
			more: []string{fmt.Sprintf("ca_file = %q", withTLS.Certificate())}, servers: []*servers.Redis{withTLS},
		},
		{
			url: "rediss://" + known.Addr(), password: "of-all", servers: []*servers.Redis{known},
			more: []string{
				fmt.Sprintf("ca_file = %q", known.Certificate()),
				fmt.Sprintf("cert_file = %q", known.Certificate()), fmt.Sprintf("key_file = %q", known.Key()),
			},
		},
		{
			url:      "redis+sentinel://" + strings.Join(set.Addrs(), ",") + "/" + set.Name() + "/2",
			password: "of-the-set", sentinelPassword: "of-the-sentinels", database: 2, servers: []*servers.Redis{primary},
		},
		{url: "redis+cluster://tokend@" + strings.Join(cluster.Addrs()[:2], ","), password: "of-tokend", servers: cluster.Nodes()},
		{
			url: "rediss+sentinel://" + strings.Join(secureSet.Addrs(), ",") + "/" + secureSet.Name(), password: "of-the-set",
			more: []string{fmt.Sprintf("ca_file = %q", secureSet.Certificate())}, servers: []*servers.Redis{securePrimary},
		},
		{
			url: "rediss+cluster://" + strings.Join(secureCluster.Addrs()[1:], ","), password: "of-all",
			more: []string{fmt.Sprintf("ca_file = %q", secureCluster.Certificate())}, servers: secureCluster.Nodes(),
		},
	} {
		site := newSite(t, append([]string{"[cache]", fmt.Sprintf("url = %q", c.url)}, c.more...)...)
		for key, password := range map[string]string{"password_file": c.password, "sentinel_password_file": c.sentinelPassword} {
			if password != "" {
				reconfigure(t, site, "[cache]", fmt.Sprintf("[cache]\n%s = %q", key, write(t, site, key, password+"\n")))
			}
		}
		database, err := postgres.NewDatabase(t.Context(), "template0")
		if err != nil {
			t.Fatal(err)
		}
		reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), postgres.URL(database))
		start(t, site)
		n := &node{site: site, admin: adminOf(site)}
		n.waitReady(t)
		made := n.mustCreate(t, "alice")
		want := map[int]int{c.database: 2} // the record, and what the server is tried with
		for begun := time.Now(); !maps.Equal(countKeys(t, c.servers), want); time.Sleep(100 * time.Millisecond) {
			if yes, reason, err := n.check("alice", made.Secret); !yes { // again where a busy machine gave the fill up
				t.Errorf("%s: %s %v", c.url, reason, err)
			}
			if time.Since(begun) > 20*time.Second {
				t.Fatalf("%s: by database, there are %v keys, want %v", c.url, countKeys(t, c.servers), want)
			}
		}
	}
}

// countKeys counts those of all the servers, by the number of their database.
func countKeys(t *testing.T, all []*servers.Redis) map[int]int {
	t.Helper()
	n := map[int]int{}
	for _, server := range all {
		info, err := server.Exec(t.Context(), "INFO", "keyspace")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(info.(string)) {
			var database, keys int
			if read, _ := fmt.Sscanf(line, "db%d:keys=%d,", &database, &keys); read == 2 {
				n[database] += keys
			}
		}
	}
	return n
}
