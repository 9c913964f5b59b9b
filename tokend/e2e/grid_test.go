package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tokend/pamhelper/wire"
	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/web"
)

// redisServer is one server for the tests that leave it as it is.
var redisServer = sync.OnceValues(func() (*servers.Redis, error) {
	server, err := servers.StartRedis()
	if err == nil {
		toStop(server.Stop)
	}
	return server, err
})

// grid is so many daemons over one PostgreSQL database and one Redis, each of which gets to
// them by proxies of its own.
type grid struct {
	nodes    []*gridNode
	postgres *servers.PostgreSQL
	database string
	redis    *servers.Redis
}

type gridNode struct {
	*rig.Site
	toPostgres, toRedis *servers.Proxy
	admin               *http.Client
}

func newGrid(t *testing.T, size int) *grid {
	t.Helper()
	g := new(grid)
	var err error
	if g.postgres, err = postgreSQL(); err != nil {
		t.Fatal(err)
	}
	if g.redis, err = redisServer(); err != nil {
		t.Fatal(err)
	}
	if g.database, err = g.postgres.NewDatabase(t.Context(), "template0"); err != nil {
		t.Fatal(err)
	}
	for range size {
		n := new(gridNode)
		n.toPostgres = startProxy(t, "unix", filepath.Join(g.postgres.Dir(), ".s.PGSQL."+g.postgres.Port()))
		n.toRedis = startProxy(t, "tcp", g.redis.Addr())
		url := fmt.Sprintf("postgres://tokend@%s/%s?sslmode=disable", n.toPostgres.Addr(), g.database)
		n.Site = newSite(t, "[cache]", fmt.Sprintf("url = %q", "redis://"+n.toRedis.Addr()))
		reconfigure(t, n.Site, "sqlite:"+n.Path("state/tokend.db"), url)
		n.admin = adminClient(t, n.Site)
		start(t, n.Site)
		g.nodes = append(g.nodes, n)
	}
	for _, n := range g.nodes {
		n.waitReady(t)
	}
	return g
}

// adminClient asks the site's admin socket.
func adminClient(t *testing.T, site *rig.Site) *http.Client {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", site.AdminSocket())
	}}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func startProxy(t *testing.T, network, target string) *servers.Proxy {
	t.Helper()
	p, err := servers.StartProxy(network, target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// call asks the admin API, whose answer goes to out.
func (n *gridNode) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://tokend"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	reply, err := n.admin.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return err
	}
	if reply.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, reply.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

func (n *gridNode) create(ctx context.Context, user, expiry string) (web.Created, error) {
	var made web.Created
	return made, n.call(ctx, http.MethodPost, "/api/v1/tokens", web.NewToken{User: user, Expiry: expiry}, &made)
}

func (n *gridNode) mustCreate(t *testing.T, user string) web.Created {
	t.Helper()
	made, err := n.create(t.Context(), user, "never")
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (n *gridNode) revoke(ctx context.Context, id string) error {
	return n.call(ctx, http.MethodDelete, "/api/v1/tokens/"+id, nil, nil)
}

func (n *gridNode) setDisabled(ctx context.Context, user string, disabled bool) error {
	return n.call(ctx, http.MethodPut, "/api/v1/users/"+user, web.UserState{Disabled: disabled}, nil)
}

// check asks as the helper does, once.
func (n *gridNode) check(user, secret string) (yes bool, reason string, err error) {
	conn, err := net.Dial("unix", n.AuthSocket())
	if err != nil {
		return false, "", err
	}
	defer conn.Close()
	request := wire.Request{Login: []byte(user), Secret: []byte(secret), Service: []byte("irods")}
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false, "", err
	}
	if _, err := request.WriteTo(conn); err != nil {
		return false, "", err
	}
	return wire.ReadReply(conn)
}

// ready is what /readyz says.
func (n *gridNode) ready(ctx context.Context) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tokend/readyz", nil)
	if err != nil {
		return "", err
	}
	reply, err := n.admin.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	return string(text), err
}

func (n *gridNode) waitReady(t *testing.T) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		text, err := n.ready(t.Context())
		if err == nil && text == "ready\n" {
			return
		}
		if time.Since(begun) > 30*time.Second {
			t.Fatal(errors.Join(fmt.Errorf("not ready but %q", text), err))
		}
	}
}
