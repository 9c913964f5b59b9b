package e2e

import (
	"testing"
	"time"

	"tokend/tokend/store/postgres"
	"tokend/tokend/web"
)

// TestWhatIsNotInTheBackupThatWasPutBackIsNoYes, though Redis has it for an hour: neither
// with daemons that run meanwhile, nor with those that are started afterwards.
func TestWhatIsNotInTheBackupThatWasPutBackIsNoYes(t *testing.T) {
	t.Parallel()
	g := startGrid(t, gridSettings{ttl: time.Hour, killed: true})
	kept := g.nodes[0].mustCreate(t, "alice")
	backup, err := g.database.Dump("postgres")
	must(t, err)
	create := func() web.Created {
		made := g.nodes[1].mustCreate(t, "alice")
		wantVerdicts(t, g, made, true)
		return made
	}

	made := create()
	time.Sleep(postgres.Deaf) // all know how long the trail was
	must(t, g.database.PutBack("postgres", backup))
	again := g.nodes[0].mustCreate(t, "alice") // so that the trail is as long as it was
	awaitRefusal(t, g, made, "unknown")
	wantVerdicts(t, g, kept, true)
	wantVerdicts(t, g, again, true)

	made = create()
	for _, n := range g.nodes {
		must(t, n.daemon.Stop())
	}
	must(t, g.database.PutBack("postgres", backup))
	for _, n := range g.nodes {
		n.daemon, err = n.site.Start(t.Context())
		must(t, err)
	}
	wantVerdicts(t, g, made, false)
	wantVerdicts(t, g, again, false)
	wantVerdicts(t, g, kept, true)
}
