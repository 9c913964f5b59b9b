package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"tokend/tokend/e2e/rig"
)

// observed is a running site and the address of its metrics.
func observed(t *testing.T, env ...string) (site *rig.Site, daemon *rig.Daemon, metrics string) {
	t.Helper()
	site = newSite(t)
	site.Env = env
	metrics, err := rig.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if err := site.WriteConfig(metrics); err != nil {
		t.Fatal(err)
	}
	daemon = start(t, site)
	waitForLog(t, site, 0, "an address of [http] is served")
	return site, daemon, metrics
}

func fetch(t *testing.T, url string) (status int, text string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

// scrape reads all samples of /metrics, by name and labels.
func scrape(t *testing.T, address string) map[string]float64 {
	t.Helper()
	_, text := fetch(t, "http://"+address+"/metrics")
	values := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, found := strings.Cut(lines.Text(), " ")
		if number, err := strconv.ParseFloat(value, 64); found && err == nil {
			values[name] = number
		}
	}
	return values
}

func TestMetricsTellWhatHappened(t *testing.T) {
	site, _, metrics := observed(t)
	made := createTokens(t, site)
	for _, c := range []struct{ user, password string }{
		{"alice", made.good}, {"alice", made.good}, {"bob", made.good}, {"alice", rig.Typo(made.good)},
		{"alice", made.expired}, {"alice", made.revoked}, {"carol", made.disabled},
	} {
		if _, err := site.AskAsIRODS(t.Context(), c.user, c.password); err != nil {
			t.Fatal(err)
		}
	}
	got := scrape(t, metrics)
	want := map[string]float64{
		`tokend_validations_total{result="ok"}`:                                        2,
		`tokend_validations_total{result="wrong-user"}`:                                1,
		`tokend_validations_total{result="malformed"}`:                                 1,
		`tokend_validations_total{result="expired"}`:                                   1,
		`tokend_validations_total{result="revoked"}`:                                   1,
		`tokend_validations_total{result="user-disabled"}`:                             1,
		`tokend_validations_total{result="unknown"}`:                                   0,
		`tokend_validations_total{result="unavailable"}`:                               0,
		`tokend_validation_duration_seconds_count`:                                     7,
		`tokend_cache_requests_total{outcome="hit",tier="memory"}`:                     2,
		`tokend_cache_requests_total{outcome="miss",tier="memory"}`:                    2,
		`tokend_cache_requests_total{outcome="buried",tier="memory"}`:                  2,
		`tokend_store_request_duration_seconds_count{operation="mint",outcome="ok"}`:   5,
		`tokend_store_request_duration_seconds_count{operation="lookup",outcome="ok"}`: 4,
		`tokend_connections_rejected_total{reason="peer"}`:                             0,
		`tokend_connections_rejected_total{reason="busy"}`:                             0,
		`tokend_tokens{state="active"}`:                                                3,
		`tokend_tokens{state="expired"}`:                                               1,
		`tokend_tokens{state="revoked"}`:                                               1,
		`tokend_config_last_reload_successful`:                                         1,
	}
	for name := range want {
		if _, there := got[name]; !there {
			t.Errorf("%s is not there", name)
		}
	}
	picked := map[string]float64{}
	for name := range want {
		picked[name] = got[name]
	}
	if diff := cmp.Diff(want, picked); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if !strings.Contains(strings.Join(keys(got), "\n"), `tokend_build_info{`) {
		t.Error("tokend_build_info is not there")
	}
	for bound := range strings.FieldsSeq("5e-05 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 +Inf") {
		if _, there := got[`tokend_validation_duration_seconds_bucket{le="`+bound+`"}`]; !there {
			t.Errorf("there is no classic bucket up to %s s", bound)
		}
	}
}

func keys(m map[string]float64) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

func TestMetricsAreWellNamed(t *testing.T) {
	site, _, metrics := observed(t)
	good := create(t, site, "alice", "never")
	for _, secret := range []string{good, rig.Typo(good)} {
		if _, err := site.AskAsIRODS(t.Context(), "alice", secret); err != nil {
			t.Fatal(err)
		}
	}
	_, text := fetch(t, "http://"+metrics+"/metrics")
	for _, name := range []string{
		"validations_total counter", "validation_duration_seconds histogram", "cache_requests_total counter",
		"store_request_duration_seconds histogram", "connections_rejected_total counter", "tokens gauge",
		"build_info gauge", "config_last_reload_successful gauge",
	} {
		if !strings.Contains(text, "\n# TYPE tokend_"+name+"\n") {
			t.Errorf("tokend_%s is not there", name)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestDurationIsANativeHistogramToo asks in the format that carries one.
func TestDurationIsANativeHistogramToo(t *testing.T) {
	site, _, metrics := observed(t)
	if _, err := site.AskAsIRODS(t.Context(), "alice", create(t, site, "alice", "never")); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	families := decode(t, reply)
	for _, name := range []string{"tokend_validation_duration_seconds", "tokend_store_request_duration_seconds"} {
		family := families[name]
		if family == nil {
			t.Fatalf("%s is not there", name)
		}
		series := family.GetMetric()
		used := slices.IndexFunc(series, func(m *dto.Metric) bool { return m.GetHistogram().GetSampleCount() > 0 })
		if used < 0 {
			t.Fatalf("%s has counted nothing", name)
		}
		h := series[used].GetHistogram()
		if len(h.GetPositiveSpan()) == 0 || h.GetSchema() == 0 || len(h.GetBucket()) == 0 {
			t.Errorf("%s: schema %d, %d native spans and %d classic buckets", name, h.GetSchema(), len(h.GetPositiveSpan()), len(h.GetBucket()))
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	_, _, metrics := observed(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if status, text := fetch(t, "http://"+metrics+path); status != http.StatusOK || text != want {
			t.Errorf("%s: %d %q", path, status, text)
		}
	}
}

func TestFailedReloadIsSeenFromOutside(t *testing.T) {
	site, daemon, metrics := observed(t)
	reloaded := func() float64 { return scrape(t, metrics)["tokend_config_last_reload_successful"] }
	reconfigure(t, site, "[auth]", "[aut]")
	hangup(t, site, daemon, "configuration not reloaded")
	if got := reloaded(); got != 0 {
		t.Errorf("after a mistake: %v, want 0", got)
	}
	reconfigure(t, site, "[aut]", "[auth]")
	hangup(t, site, daemon, "configuration reloaded")
	if got := reloaded(); got != 1 {
		t.Errorf("mended: %v, want 1", got)
	}
}

// TestNoSecretIsEverWritten runs everything at debug level and looks for the
// secrets that it used in all that was printed, logged, counted and kept.
func TestNoSecretIsEverWritten(t *testing.T) {
	for format, level := range map[string]string{"json": `"level":"DEBUG"`, "text": "level=DEBUG"} {
		t.Run(format, func(t *testing.T) { noSecretIsWritten(t, format, level) })
	}
}

// noSecretIsWritten does all there is to do, with a log in the format.
func noSecretIsWritten(t *testing.T, format, level string) {
	t.Helper()
	site, daemon, metrics := observed(t)
	if err := daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(site.Config(), bytes.Replace(config, []byte(`"json"`), []byte(strconv.Quote(format)), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon = start(t, site)
	syslog, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: site.Syslog(), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer syslog.Close()
	made := createTokens(t, site)
	near := rig.Typo(made.good)
	const password = "Ordinary-pass_word.7" // for another module of the stack, which comes after ours
	secrets := []string{made.good, made.expired, made.revoked, made.bobs, made.disabled, near, password}
	var printed bytes.Buffer
	run := func(stdin string, args ...string) {
		cmd := exec.CommandContext(t.Context(), site.Tokend(), append(args, "--admin-socket", site.AdminSocket())...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &printed, &printed
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
	}
	for _, secret := range secrets {
		users := []string{"alice", "bob", "carol"}
		if secret != password { // which may be a name
			users = append(users, secret)
		}
		for _, user := range users {
			for _, ask := range []func() (rig.Answer, error){
				func() (rig.Answer, error) { return site.AskAsIRODS(t.Context(), user, secret) },
				func() (rig.Answer, error) { return site.AskAsPAM(t.Context(), user, secret) },
			} {
				answer, err := ask()
				if err != nil {
					t.Fatal(err)
				}
				printed.WriteString(answer.Stdout + answer.Stderr)
				if !answer.OK() {
					printed.Write(datagram(t, syslog))
				}
			}
			run(secret, "check", "--user", user, "--socket", site.AuthSocket())
		}
	}
	run("", "token", "create", "--user", made.good)
	run("", "user", "disable", made.good)
	run("", "token", "revoke", "--user", made.good, "--all")
	run("", "token", "revoke", made.bobs)
	id := idOf(t, site, made.expired)
	run("", "token", "revoke", id)
	run("", "token", "list")
	run("", "token", "list", "--json")
	run("", "user", "list")
	run("", "audit")
	run(near, "token", "revoke", "--secret", "-")
	run(made.good, "token", "revoke", "--secret", "-")
	run(made.good+made.good, "token", "revoke", "--secret", "-")
	sayOnly(t, site, "\x00\x05alice\x00\xff"+made.good)
	hangup(t, site, daemon, "configuration reloaded")
	_, counted := fetch(t, "http://"+metrics+"/metrics")
	printed.WriteString(counted)
	for _, path := range []string{site.Log(), site.Path("state/tokend.db"), site.Path("state/tokend.db-wal"), site.Path("state/tokend.db-shm")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		printed.Write(text)
	}
	all := printed.String()
	for _, seen := range []string{level, `wrong-user`, "CREATE TABLE", "revoked " + id + " of alice", "did not come whole", "irodsPamAuthCheck[", "pamhelper[", "tokend: ", "tokend_tokens{"} {
		if !strings.Contains(all, seen) {
			t.Errorf("%s was not looked at", seen)
		}
	}
	const most = 8 // characters of a secret that are shown
	for i, secret := range secrets {
		for from := len("irt_"); from+most < len(secret); from++ {
			if at := strings.Index(all, secret[from:from+most+1]); at >= 0 {
				t.Fatalf("secret %d is in, from its character %d: %s", i, from, all[max(0, at-200):at])
			}
		}
	}
}

// idOf is the ID of a token, by the characters of it that are shown.
func idOf(t *testing.T, site *rig.Site, secret string) string {
	t.Helper()
	for line := range strings.Lines(tokend(t, site, "", "token", "list")) {
		if fields := strings.Fields(line); strings.Contains(line, secret[:12]) {
			return fields[0]
		}
	}
	t.Fatal("the token is not in the list")
	return ""
}

// sayOnly sends no more than that to the auth socket, and waits for the no.
func sayOnly(t *testing.T, site *rig.Site, text string) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: site.AuthSocket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, text)
	if err := errors.Join(err, conn.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if reply, err := io.ReadAll(conn); string(reply) != "\x00\x0cNO malformed" {
		t.Errorf("got %q, %v", reply, err)
	}
}

// datagram is the next one of a log.
func datagram(t *testing.T, log *net.UnixConn) []byte {
	t.Helper()
	if err := log.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2048)
	n, err := log.Read(buffer)
	if err != nil {
		t.Fatalf("syslog was told nothing: %v", err)
	}
	return buffer[:n]
}
