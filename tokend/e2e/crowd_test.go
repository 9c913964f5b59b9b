package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tokend/tokend/e2e/rig"
)

// TestCrowdDoesNotKeepAdminsFromHealthAndMetrics: strangers fill the port, the
// admin socket is for admins.
func TestCrowdDoesNotKeepAdminsFromHealthAndMetrics(t *testing.T) {
	site, _, metrics := observed(t)
	for range 100 {
		conn, err := net.Dial("tcp", metrics)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", site.AdminSocket())
	}}}
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "tokend_build_info{"} {
		reply, err := client.Get("http://tokend" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		if text, err := io.ReadAll(reply.Body); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", path, text, err)
		}
	}
}

// TestCrowdAtTheMetricsStopsNoLogin: anybody on the machine may connect there.
func TestCrowdAtTheMetricsStopsNoLogin(t *testing.T) {
	site := newSite(t)
	metrics, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if err := site.WriteConfig(metrics); err != nil {
		t.Fatal(err)
	}
	limited := exec.Command("prlimit", "--nofile=100:100", site.Tokend(), "serve", "--config", site.Config())
	daemon, err := site.Launch(limited)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, 0, "an address of [http] is served")
	good := create(t, site, "alice", "never")
	for range 300 {
		conn, err := net.Dial("tcp", metrics)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for range 20 {
		if answer, err := site.AskAsIRODS(t.Context(), "alice", good); err != nil || !answer.OK() {
			t.Errorf("got %+v, %v", answer, err)
		}
	}
	begun := time.Now()
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	within(t, time.Since(begun), 4*time.Second) // it waits for the requests of admins for five
}

// TestMetricsThatCannotBeServedStopNoLogin: somebody else has the port, which needs
// no right; the machine has no such address yet.
func TestMetricsThatCannotBeServedStopNoLogin(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, address := range []string{"192.0.2.1:9480", taken.Addr().String()} {
		site := newSite(t)
		if err := site.WriteConfig(address); err != nil {
			t.Fatal(err)
		}
		daemon := start(t, site)
		good := create(t, site, "alice", "never")
		if answer, err := site.AskAsIRODS(t.Context(), "alice", good); err != nil || !answer.OK() {
			t.Errorf("%s: got %+v, %v", address, answer, err)
		}
		waitForLog(t, site, 0, "an address of [http] is not served until it can be had")
		if err := daemon.Stop(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestMetricsAreServedOnceTheirAddressIsFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	site := newSite(t)
	if err := site.WriteConfig(taken.Addr().String()); err != nil {
		t.Fatal(err)
	}
	start(t, site)
	waitForLog(t, site, 0, "an address of [http] is not served until it can be had")
	if status, said := ready(t, site); status != http.StatusOK || said != "degraded: the address of metrics cannot be had; the log says more" {
		t.Errorf("while it is taken, /readyz has status %d and says %q", status, said)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	waitForLog(t, site, 0, "an address of [http] is served")
	if status, said := ready(t, site); status != http.StatusOK || said != "ready" {
		t.Errorf("once it is free, /readyz has status %d and says %q", status, said)
	}
	if status, text := fetch(t, "http://"+taken.Addr().String()+"/healthz"); status != http.StatusOK {
		t.Errorf("got %d %q", status, text)
	}
}
