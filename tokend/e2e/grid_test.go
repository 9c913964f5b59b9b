package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/web"
)

// grid is some daemons over one PostgreSQL and one Redis, each with ways of its own to
// them.
type grid struct {
	database *servers.PostgreSQL
	standby  *servers.PostgreSQL // nil: none
	redis    *servers.Redis
	set      *servers.RedisSentinel // in its place; nil: none
	nodes    []*node
}

// node is one of the daemons.
type node struct {
	site    *rig.Site
	daemon  *rig.Daemon // where it is to be killed
	metrics string
	toStore *servers.Proxy
	toCache *servers.Proxy // nil: to a set of servers

	pooler   *servers.PgBouncer // nil: there is none
	toPooler *servers.Proxy

	toSentinels []*servers.Proxy
	admin       http.Client
}

// gridSettings are those of a grid.
type gridSettings struct {
	ttl, stale  time.Duration // 0: the default
	withStandby bool          // that has what the primary has acknowledged
	postgres    []string
	secure      bool // Redis is reached by TLS
	sentinel    bool // Redis is a set of servers
	pooled      bool // each daemon has a pooler before PostgreSQL
	size        int  // 0: three
	killed      bool // the daemons don't end cleanly
}

func startGrid(t *testing.T, s gridSettings) *grid {
	t.Helper()
	g := &grid{}
	var err error
	if g.database, err = servers.StartPostgreSQL(s.postgres...); err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, g.database.Stop)
	if s.withStandby {
		if g.standby, err = g.database.Standby(s.postgres...); err != nil {
			t.Fatal(err)
		}
		stopAtEnd(t, g.standby.Stop)
		for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
			if err := g.database.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.startRedis(t, s)
	for range cmp.Or(s.size, 3) {
		g.nodes = append(g.nodes, g.startNode(t, s))
	}
	return g
}

func (g *grid) startRedis(t *testing.T, s gridSettings) {
	t.Helper()
	var err error
	if s.sentinel {
		if g.set, err = servers.StartRedisSentinel(); err != nil {
			t.Fatal(err)
		}
		stopAtEnd(t, g.set.Stop)
		return
	}
	start := servers.StartRedis
	if s.secure {
		start = servers.StartRedisWithTLS
	}
	if g.redis, err = start(); err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, g.redis.Stop)
}

// cacheOf is what the node's [cache] says of Redis.
func (g *grid) cacheOf(t *testing.T, n *node, s gridSettings) string {
	t.Helper()
	if s.sentinel {
		var all []string
		for _, address := range g.set.Addrs() {
			proxy := startProxy(t, "tcp", address)
			n.toSentinels, all = append(n.toSentinels, proxy), append(all, proxy.Addr())
		}
		return `url = "redis+sentinel://` + strings.Join(all, ",") + "/" + g.set.Name() + `"`
	}
	n.toCache = startProxy(t, "tcp", g.redis.Addr())
	if s.secure {
		return `url = "rediss://` + n.toCache.Addr() + `"` + "\nca_file = '" + g.redis.Certificate() + "'"
	}
	return `url = "redis://` + n.toCache.Addr() + `"`
}

func (g *grid) startNode(t *testing.T, s gridSettings) *node {
	t.Helper()
	n := &node{toStore: startProxy(t, "unix", socketOf(g.database))}
	addresses, attributes := n.toStore.Addr(), ""
	if g.standby != nil {
		addresses += "," + startProxy(t, "unix", socketOf(g.standby)).Addr()
		attributes = "&target_session_attrs=read-write"
	}
	var err error
	if n.site, err = rig.NewSite(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(n.site.Log()); err == nil {
				t.Logf("the daemon's log, but for its verdicts, ends:\n%s", last(withoutVerdicts(log), 4000))
			}
		}
		if err := n.site.Close(); err != nil {
			t.Error(err)
		}
	})
	if n.metrics, err = rig.FreeAddress(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Link(built.Tokend(), n.site.Tokend()),
		n.site.WriteConfig(n.metrics, `[tokens]`, `max_per_user = 10000`, `[cache]`, g.cacheOf(t, n, s),
			`ttl = "`+cmp.Or(s.ttl, time.Minute).String()+`"`, `stale = "`+cmp.Or(s.stale, 10*time.Minute).String()+`"`),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	url := "postgres://tokend@" + addresses + "/postgres?sslmode=disable" + attributes
	if s.pooled {
		pooler, err := servers.StartPgBouncer(g.database, "default_pool_size = 5")
		if err != nil {
			t.Fatal(err)
		}
		stopAtEnd(t, pooler.Stop)
		n.pooler, n.toPooler = pooler, startProxy(t, "unix", pooler.Socket())
		url = "postgres://tokend@" + n.toPooler.Addr() + "/postgres?sslmode=disable\"\ndirect_url = \"" + url
	}
	reconfigure(t, n.site, "sqlite:"+n.site.Path("state/tokend.db"), url)
	n.admin = adminOf(n.site)
	if !s.killed {
		start(t, n.site)
	} else if n.daemon, err = n.site.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// adminOf asks the site's admin socket.
func adminOf(site *rig.Site) http.Client {
	return http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", site.AdminSocket())
		},
	}}
}

func startProxy(t *testing.T, network, target string) *servers.Proxy {
	t.Helper()
	proxy, err := servers.StartProxy(network, target)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, proxy.Close)
	return proxy
}

func socketOf(p *servers.PostgreSQL) string { return filepath.Join(p.Dir(), ".s.PGSQL.5432") }

func stopAtEnd(t *testing.T, stop func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func withoutVerdicts(log []byte) string {
	var kept strings.Builder
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte(`"msg":"verdict"`)) && !bytes.Contains(line, []byte(`"level":"DEBUG"`)) {
			kept.Write(line)
		}
	}
	return kept.String()
}

// do asks the daemon's API, and decodes what it answers into reply, unless that is nil.
func (n *node) do(ctx context.Context, method, path string, body, reply any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://tokend"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := n.admin.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, text)
	case reply == nil:
		return nil
	}
	return json.Unmarshal(text, reply)
}

func (n *node) create(ctx context.Context, user, life string) (made web.Created, err error) {
	return made, n.do(ctx, http.MethodPost, "/api/v1/tokens", web.NewToken{User: user, Expiry: life}, &made)
}

func (n *node) mustCreate(t *testing.T, user string) web.Created {
	t.Helper()
	made, err := n.create(t.Context(), user, "never")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (n *node) revoke(ctx context.Context, id string) error {
	return n.do(ctx, http.MethodDelete, "/api/v1/tokens/"+id, struct{}{}, nil)
}

func (n *node) setDisabled(ctx context.Context, user string, disabled bool) error {
	return n.do(ctx, http.MethodPut, "/api/v1/users/"+user, web.UserState{Disabled: disabled}, nil)
}

// check asks as the helper does, once.
func (n *node) check(user, secret string) (yes bool, reason string, err error) {
	return converse(n.site, user, secret, time.Now().Add(10*time.Second))
}

// readyz is what the daemon says of itself.
func (n *node) readyz(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tokend/readyz", nil)
	if err != nil {
		return "", err
	}
	answer, err := n.admin.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return strings.TrimSpace(string(text)), err
}

// waitReady waits until all is as it should be.
func (n *node) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "the node is ready", func() error {
		text, err := n.readyz(t.Context())
		if err == nil && text != "ready" {
			err = errors.New(text)
		}
		return err
	})
}

// eventually waits until f returns nil, a generous while.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	err := within30(t.Context(), f)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func within30(ctx context.Context, f func() error) error {
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := f()
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
