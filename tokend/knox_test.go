package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/knoxtest"
	"tokend/tokend/e2e/servers"
	"tokend/tokend/verify"
)

// besideKnox is a daemon over a store of its own and the database of a SODAR.
func besideKnox(t *testing.T) (n *node, site *knoxtest.Site, server *servers.PostgreSQL) {
	t.Helper()
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, server.Stop)
	site = knoxtest.New(t, server, "sodar-1.3")
	n = over(t, "[store]\nurl = 'sqlite:"+filepath.Join(t.TempDir(), "tokend.db")+"'\n[knox]\nurl = '"+site.URL()+"'\nrefresh = '1s'\n[cache]\nttl = '1s'\nstale = '2s'\n")
	inBackground(t, n.knox.Run)
	inBackground(t, n.verifier.Run)
	return n, site, server
}

func (n *node) wantReady(t *testing.T, when, want string, status int) {
	t.Helper()
	is := n.readiness(t.Context())
	for begun := time.Now(); (is.String() != want || is.status() != status) && time.Since(begun) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		is = n.readiness(t.Context())
	}
	if is.String() != want || is.status() != status {
		t.Errorf("%s: it says %q, status %d, want %q", when, is, is.status(), want)
	}
	if up := n.dependency(t, "knox"); up != (want == "ready") {
		t.Errorf("%s: tokend_up_dependency of knox is %t", when, up)
	}
}

// TestNotReadyIsWhoseKnoxCannotBeRead, or has been away for longer than anything is believed.
func TestNotReadyIsWhoseKnoxCannotBeRead(t *testing.T) {
	n, site, server := besideKnox(t)
	var log bytes.Buffer
	n.log = slog.New(slog.NewTextHandler(&log, nil))
	n.wantReady(t, "at the start", "ready", http.StatusOK)
	const drifted = "not ready: the tables of Knox are not what they should be; the log says more"
	site.Exec(`ALTER TABLE tokens_sodarauthtoken RENAME TO away`)
	n.wantReady(t, "without its table", drifted, http.StatusServiceUnavailable)
	site.Exec(`ALTER TABLE away RENAME TO tokens_sodarauthtoken`)
	n.wantReady(t, "with it", "ready", http.StatusOK)
	const away, back = `level=WARN msg="the database of Knox does not answer" err=`, `level=INFO msg="the database of Knox answers again"`
	if said := log.String(); strings.Contains(said, away) || strings.Contains(said, back) {
		t.Errorf("drift is told as an outage:\n%s", said)
	}
	log.Reset()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	n.wantReady(t, "away", "degraded: the database of Knox cannot be asked, and cached records are believed for a while; the log says more", http.StatusOK)
	n.wantReady(t, "away for long", "not ready: the database of Knox cannot be asked; the log says more", http.StatusServiceUnavailable)
	if err := server.Serve("fsync=off"); err != nil {
		t.Fatal(err)
	}
	n.wantReady(t, "back", "ready", http.StatusOK)
	if said := log.String(); strings.Count(said, away) != 1 || strings.Count(said, back) != 1 {
		t.Errorf("it was away once, and is back:\n%s", said)
	}
}

// TestTheDaemonStartsWithoutKnox, whose database may come later.
func TestTheDaemonStartsWithoutKnox(t *testing.T) {
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	atEnd(t, server.Stop)
	site := knoxtest.New(t, server, "sodar-1.2")
	secret := site.Mint(site.User("alice"))
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	n := over(t, "[store]\nurl = ''\n[knox]\nurl = '"+site.URL()+"'\n")
	n.wantReady(t, "away", "not ready: the database of Knox cannot be asked; the log says more", http.StatusServiceUnavailable)
	says := func() verify.Verdict { return n.verifier.Check(context.Background(), "alice", secret.Reveal()) }
	if got := says(); got.Reason != verify.Unavailable || !strings.Contains(got.Detail.Error(), "is it running where [knox] url says") {
		t.Errorf("it says %s: %v", got.Reason, got.Detail)
	}
	if err := server.Serve("fsync=off"); err != nil {
		t.Fatal(err)
	}
	inBackground(t, n.knox.Run)
	n.wantReady(t, "there", "ready", http.StatusOK)
	if got := says(); !got.OK() {
		t.Errorf("it says %s: %v", got.Reason, got.Detail)
	}
}
