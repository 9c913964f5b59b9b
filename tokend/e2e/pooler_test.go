package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/web"
)

// TestDaemonsBehindAPoolerHearOfEachOther: it has fewer connections than they.
func TestDaemonsBehindAPoolerHearOfEachOther(t *testing.T) {
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	database, err := server.NewDatabase(t.Context(), "template0")
	if err != nil {
		t.Fatal(err)
	}
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pooler.Stop(); err != nil {
			t.Error(err)
		}
	})
	sites := []*rig.Site{newSite(t), newSite(t)}
	for _, site := range sites {
		reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), pooler.URL(database)+"\"\ndirect_url = \""+server.URL(database))
		start(t, site)
	}
	user := "alice"
	good, other := create(t, sites[0], user, "never"), create(t, sites[1], user, "never")
	for _, site := range sites {
		for _, secret := range []string{good, other} {
			wantYes(t, agent{user: &user, password: secret}.run(t, site))
		}
	}
	tokend(t, sites[0], good, "token", "revoke", "--secret", "-")
	wantNo(t, agent{user: &user, password: good}.run(t, sites[0]))
	waitForNo(t, sites, good)
	for _, site := range sites {
		wantYes(t, agent{user: &user, password: other}.run(t, site))
	}
	tokend(t, sites[1], "", "user", "disable", user)
	waitForNo(t, sites, other)
}

// TestARevokeHoldsWhereThePoolerHangs: one daemon hears of it past its pooler alone, because the
// other one, through which tokens are revoked one after the other, does not reach Redis.
func TestARevokeHoldsWhereThePoolerHangs(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{size: 2, ttl: time.Second, stale: 5 * time.Minute, pooled: true})
	revoking, asked := g.nodes[0], g.nodes[1]
	made := make([]web.Created, 4)
	for i := range made {
		made[i] = revoking.mustCreate(t, "alice")
	}
	asked.waitReady(t)
	for i, c := range made {
		keepRecord(t, g, c, i+1)
	}
	revoking.toCache.Cut()
	eventually(t, "Redis is found to be away", func() error {
		state, err := revoking.readyz(t.Context())
		if err == nil && state == "ready" {
			err = errors.New(state)
		}
		return err
	})
	asked.toPooler.Hang()
	time.Sleep(2 * time.Second) // what was read is older than ttl
	for _, c := range made {
		eventually(t, "it is believed while the pooler hangs", func() error {
			yes, reason, err := asked.check("alice", c.Secret)
			if err == nil && !yes {
				err = errors.New(reason)
			}
			return err
		})
	}
	var all sync.WaitGroup
	for _, c := range made {
		all.Go(func() {
			if err := revoking.revoke(t.Context(), c.Token.ID); err != nil {
				t.Error(err)
			}
			if yes, _, err := asked.check("alice", c.Secret); err != nil || yes {
				t.Errorf("behind the revoke: yes %t, %v", yes, err)
			}
		})
		time.Sleep(300 * time.Millisecond)
	}
	all.Wait()
}

// TestAKeyIsNotReplacedWhereThatIsNotHeardOf: the daemon would go on with the one before.
func TestAKeyIsNotReplacedWhereThatIsNotHeardOf(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{size: 1, pooled: true})
	n := g.nodes[0]
	n.waitReady(t)
	rotate := func() error { return n.do(t.Context(), http.MethodPost, "/api/v1/cache/rotate-key", struct{}{}, nil) }
	n.toStore.Hang()
	eventually(t, "it hears of no changes", func() error {
		err := rotate()
		switch {
		case err == nil || !strings.Contains(err.Error(), "while this daemon does not hear of changes"):
			return fmt.Errorf("it is replaced: %w", err)
		case !strings.Contains(err.Error(), "no answer from PostgreSQL"):
			return fmt.Errorf("it is not said why: %w", err)
		case strings.Contains(err.Error(), "may have been replaced"): // for it was not begun
			t.Error(err)
		}
		return nil
	})
	n.toStore.Heal()
	n.waitReady(t)
	if err := rotate(); err != nil {
		t.Error(err)
	}
}
