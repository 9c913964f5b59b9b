package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// systemd holds the sockets of a site as the service manager does, so that they
// outlive the daemon.
type systemd struct {
	site  *rig.Site
	files []*os.File
}

func holdSockets(t *testing.T, site *rig.Site, paths ...string) *systemd {
	t.Helper()
	s := &systemd{site: site}
	for _, path := range paths {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		file, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = file.Close() })
		s.files = append(s.files, file)
	}
	return s
}

// launch starts the daemon with the sockets on the descriptors from 3 on.
func (s *systemd) launch(t *testing.T) *rig.Daemon {
	t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve --config "$1"`, s.site.Tokend(), s.site.Config())
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(s.files)))
	cmd.ExtraFiles = s.files
	daemon, err := s.site.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return daemon
}

// TestKilledUnderLoadNoHelperGetsAWrongAnswer kills the daemon with SIGKILL again
// and again while helpers ask; the sockets stay, as under systemd.
func TestKilledUnderLoadNoHelperGetsAWrongAnswer(t *testing.T) {
	site := newSite(t)
	manager := holdSockets(t, site, site.AuthSocket(), site.AdminSocket())
	daemon := manager.launch(t)
	made := createTokens(t, site)

	var asked, wrong atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 8 {
		load.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				user, secret, yes := "alice", made.good, true
				if n%2 == 0 {
					secret, yes = made.revoked, false
				}
				answer, err := site.AskAsIRODS(context.WithoutCancel(ctx), user, secret)
				asked.Add(1)
				if err != nil || answer.OK() != yes || !answer.Plain() {
					wrong.Add(1)
					t.Errorf("want %v, got %+v, %v", yes, answer, err)
				}
			}
		})
	}
	for range 6 {
		before := asked.Load()
		for asked.Load() < before+100 {
			time.Sleep(5 * time.Millisecond)
		}
		if err := daemon.Kill(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // they queue
		daemon = manager.launch(t)
	}
	before := asked.Load()
	for asked.Load() < before+100 {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	load.Wait()
	t.Logf("%d helpers asked, %d got a wrong answer", asked.Load(), wrong.Load())
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestWaitingInTheQueueGetsTheRightAnswer: helpers that come while nobody runs
// are answered by the daemon that starts.
func TestWaitingInTheQueueGetsTheRightAnswer(t *testing.T) {
	site := newSite(t)
	manager := holdSockets(t, site, site.AuthSocket(), site.AdminSocket())
	daemon := manager.launch(t)
	made := createTokens(t, site)
	if err := daemon.Stop(); err != nil { // cleanly: the sockets stay all the same
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	for i := range 20 {
		waiting.Go(func() {
			secret, yes := made.good, true
			if i%2 == 0 {
				secret, yes = made.expired, false
			}
			answer, err := site.AskAsIRODS(t.Context(), "alice", secret)
			if err != nil || answer.OK() != yes {
				t.Errorf("want %v, got %+v, %v", yes, answer, err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	daemon = manager.launch(t)
	waiting.Wait()
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestOrdinaryRestartLosesNoLogin: without systemd the socket is away for a
// moment, and helpers wait up to two seconds for it. On a machine so busy that the
// start alone takes that long, a no is right.
func TestOrdinaryRestartLosesNoLogin(t *testing.T) {
	const tooLong = 1500 * time.Millisecond
	site := newSite(t)
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := create(t, site, "alice", "never")
	for restarts, lossless := 0, 0; lossless < 5; restarts++ {
		if restarts == 20 {
			t.Fatalf("of %d restarts only %d took less than %s", restarts, lossless, tooLong)
		}
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		var lost atomic.Int32
		for range 4 {
			load.Go(func() {
				for ctx.Err() == nil {
					if answer, err := site.AskAsIRODS(context.WithoutCancel(ctx), "alice", good); err != nil || !answer.OK() {
						lost.Add(1)
						t.Logf("got %+v, %v", answer, err)
					}
				}
			})
		}
		begun := time.Now()
		if restarts%2 == 0 {
			err = daemon.Stop()
		} else {
			err = daemon.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
		if daemon, err = site.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		away := time.Since(begun)
		stop()
		load.Wait()
		switch {
		case away > tooLong:
			t.Logf("away for %s, %d logins lost", away, lost.Load())
		case lost.Load() > 0:
			t.Errorf("away for %s only, and %d logins lost", away, lost.Load())
			lossless++
		default:
			lossless++
		}
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

func TestSocketThatIsInNoSectionIsRefused(t *testing.T) {
	site := newSite(t)
	cmd := exec.CommandContext(t.Context(), "systemd-socket-activate", "-l", site.Path("other.sock"),
		site.Tokend(), "serve", "--config", site.Config())
	daemon, err := site.Launch(cmd)
	if err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	for range 500 {
		if conn, err = net.Dial("unix", site.Path("other.sock")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := daemon.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "which is neither [auth] socket") {
		t.Errorf("got %v", err)
	}
}

// TestSIGTERMAnswersWhoIsBeingServed: a request that began before the end gets
// its answer, then the daemon exits with 0.
func TestSIGTERMAnswersWhoIsBeingServed(t *testing.T) {
	site := newSite(t)
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := create(t, site, "alice", "never")
	conn, err := net.Dial("unix", site.AuthSocket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := fmt.Sprintf("\x00\x05alice\x00%c%s\x00\x00\x00\x00", len(good), good)
	if _, err := conn.Write([]byte(request[:20])); err != nil {
		t.Fatal(err)
	}
	if got := exchange(t, site, good); got != "OK" { // then the one before it was accepted
		t.Fatalf("got %q", got)
	}
	if err := daemon.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := conn.Write([]byte(request[20:])); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 10)
	n, err := conn.Read(reply)
	if err != nil || string(reply[:n]) != "\x00\x02OK" {
		t.Errorf("got %q, %v", reply[:n], err)
	}
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
}

// TestAcknowledgedChangesSurviveSIGKILL mints and revokes in a loop and kills the
// daemon in the middle: every token that was printed must log in afterwards, and
// every one that was reported revoked must not.
func TestAcknowledgedChangesSurviveSIGKILL(t *testing.T) {
	site := newSite(t, "[tokens]", "max_per_user = 1000000")
	var minted, revoked []string
	for round := range 5 {
		daemon, err := site.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		var mints, ends []string
		var acknowledged atomic.Int32
		both.Go(func() {
			for {
				secret, err := site.Run(t.Context(), "", "token", "create", "--user", "alice")
				if err != nil {
					return
				}
				mints = append(mints, secret)
				acknowledged.Add(1)
			}
		})
		both.Go(func() {
			for _, secret := range minted {
				if _, err := site.Run(t.Context(), secret, "token", "revoke", "--secret", "-"); err != nil {
					return
				}
				ends = append(ends, secret)
			}
		})
		for begun := time.Now(); acknowledged.Load() < 5 && time.Since(begun) < 20*time.Second; {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Duration(200+100*round) * time.Millisecond)
		if err := daemon.Kill(); err != nil {
			t.Fatal(err)
		}
		both.Wait()
		revoked = append(revoked, ends...)
		minted = append(minted[len(ends):], mints...)
	}
	start(t, site)
	if len(minted)+len(revoked) < 20 || len(revoked) < 5 {
		t.Errorf("only %d were minted and %d revoked: nothing is shown", len(minted), len(revoked))
	}
	t.Logf("%d minted and %d revoked over 5 kills", len(minted)+len(revoked), len(revoked))
	ended := 0
	for i, secret := range minted {
		answer, err := site.AskAsIRODS(t.Context(), "alice", secret)
		switch {
		case err == nil && answer.OK():
		case err == nil && lastReason(t, site) == "revoked":
			ended++
		default:
			t.Errorf("token %d of %d: %+v %s %v", i, len(minted), answer, lastReason(t, site), err)
		}
	}
	if ended > 5 { // of each round the one that was being revoked when the daemon died
		t.Errorf("%d tokens ended whose revocation was not acknowledged", ended)
	}
	for i, secret := range revoked {
		answer, err := site.AskAsIRODS(t.Context(), "alice", secret)
		if err != nil || answer.OK() {
			t.Errorf("revoked token %d: %+v, %v", i, answer, err)
		}
	}
}

// TestTheLastUseIsKeptOverACleanStop, which comes long before the minute is over.
func TestTheLastUseIsKeptOverACleanStop(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	daemon := start(t, site)
	used, unused := create(t, site, "alice", "never"), create(t, site, "bob", "never")
	if !opens(t, site, "alice", used) || opens(t, site, "alice", unused) {
		t.Error("the wrong token opens iRODS")
	}
	if err := daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	start(t, site)
	for user, want := range map[string]string{"alice": "irods", "bob": ""} {
		var list []struct {
			Used   *time.Time `json:"used"`
			UsedBy string     `json:"used_by"`
		}
		if err := json.Unmarshal([]byte(tokend(t, site, "", "token", "list", "--user", user, "--json")), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 1 || list[0].UsedBy != want || (list[0].Used == nil) != (want == "") || want != "" && time.Since(*list[0].Used) > time.Minute {
			t.Errorf("%s: %+v", user, list)
		}
	}
}
