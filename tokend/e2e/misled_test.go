package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/web"
)

// misled is two daemons with a pooler each, of which the first one's can be led to a copy of the
// database.
type misled struct {
	*grid
	copied     *servers.PostgreSQL
	gone, made []web.Created // revoked, and made, since it was copied; Redis knows nothing of either
}

func newMisled(t *testing.T, tokens int) *misled {
	t.Helper()
	g := startGrid(t, gridSettings{size: 2, ttl: 4 * time.Second, stale: time.Millisecond, pooled: true})
	m := &misled{grid: g, gone: make([]web.Created, tokens), made: make([]web.Created, tokens)}
	for i := range m.gone {
		m.gone[i] = g.nodes[0].mustCreate(t, "alice")
	}
	var err error
	m.copied, err = g.database.Standby()
	must(t, err)
	stopAtEnd(t, m.copied.Stop)
	must(t, m.copied.Promote())
	for i := range m.made {
		m.made[i] = g.nodes[0].mustCreate(t, "bob")
	}
	for _, made := range m.gone {
		must(t, g.nodes[1].revoke(t.Context(), made.Token.ID))
	}
	eventually(t, "Redis knows nothing", func() error {
		if held := g.held(t); len(held) > 0 {
			return fmt.Errorf("it holds %d", len(held))
		}
		return nil
	})
	return m
}

// lead turns the pooler of the first.
func (m *misled) lead(to *servers.PostgreSQL) error {
	return m.nodes[0].pooler.Lead("postgres", to, "postgres")
}

// TestWhatAPoolerReadsElsewhereIsBelievedByNobody: not even the first login is asked there, and
// nothing that the others believe comes from there. Where nothing answers past the pooler, nobody
// knows where it leads: what is read then reaches nobody but the login that asked.
func TestWhatAPoolerReadsElsewhereIsBelievedByNobody(t *testing.T) {
	t.Parallel()
	m := newMisled(t, 100) // each is asked for once
	m.unheard(t, m.gone[99], m.made[99])
	m.nodes[0].waitReady(t)
	led := make(chan error, 1)
	go func() { led <- m.lead(m.copied) }()
	for i := 0; i < len(m.gone)-1 && !t.Failed(); i++ {
		for j, n := range m.nodes {
			yes, reason, err := n.check("alice", m.gone[i].Secret)
			if err != nil || yes || reason != "revoked" && (j == 1 || reason != "unavailable") {
				t.Errorf("node %d, revoked token %d: yes %t, %s, %v", j, i, yes, reason, err)
			}
			yes, reason, err = n.check("bob", m.made[i].Secret)
			if err != nil || !yes && (j == 1 || reason != "unavailable") {
				t.Errorf("node %d, new token %d: %s, %v", j, i, reason, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, <-led)
	log, err := os.ReadFile(m.nodes[0].site.Log())
	must(t, err)
	if !bytes.Contains(log, []byte("nothing is asked or changed through the pooler any more")) {
		t.Error("nobody has noticed where the pooler leads")
	}
	must(t, m.lead(m.database))
	m.nodes[0].waitReady(t)
	for i := range m.gone {
		wantVerdicts(t, m.grid, m.made[i], true)
		wantVerdicts(t, m.grid, m.gone[i], false)
	}
}

// unheard has the first daemon's pooler lead elsewhere while nothing answers past it, and back.
func (m *misled) unheard(t *testing.T, gone, made web.Created) {
	t.Helper()
	asked, other := m.nodes[0], m.nodes[1]
	asked.toStore.Cut()
	must(t, m.lead(m.copied))
	eventually(t, "an answer from there", func() error {
		yes, reason, err := asked.check("alice", gone.Secret)
		if err == nil && !yes {
			err = errors.New(reason)
		}
		return err
	})
	if yes, reason, err := other.check("alice", gone.Secret); err != nil || yes {
		t.Errorf("by the other: yes %t, %s, %v", yes, reason, err)
	}
	must(t, m.lead(m.database))
	asked.toStore.Heal()
	wantVerdicts(t, m.grid, gone, false)
	wantVerdicts(t, m.grid, made, true)
}
