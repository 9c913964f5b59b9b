package verify_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/tokend/token"
	"tokend/tokend/verify"
)

// changed returns the counters, but for the buckets, that f moves.
func (f *fixture) changed(t *testing.T, do func()) map[string]float64 {
	t.Helper()
	before := f.scrape(t)
	do()
	moved := map[string]float64{}
	for name, value := range f.scrape(t) {
		if d := value - before[name]; d != 0 && counted[name] {
			moved[name] = d
		}
	}
	return moved
}

const (
	hit     = `tokend_cache_requests_total{outcome="hit",tier="memory"}`
	old     = `tokend_cache_requests_total{outcome="old",tier="memory"}`
	miss    = `tokend_cache_requests_total{outcome="miss",tier="memory"}`
	buried  = `tokend_cache_requests_total{outcome="buried",tier="memory"}`
	unknown = `tokend_cache_requests_total{outcome="unknown",tier="memory"}`
	failed  = `tokend_cache_requests_total{outcome="error",tier="memory"}`
	garbled = `tokend_cache_requests_total{outcome="tampered",tier="memory"}`
	trusted = `tokend_stale_records_believed_total`
	timed   = `tokend_validation_duration_seconds_count`
)

func result(r verify.Reason) string { return `tokend_validations_total{result="` + string(r) + `"}` }

var counted = func() map[string]bool {
	names := map[string]bool{hit: true, old: true, miss: true, buried: true, unknown: true, failed: true, garbled: true, trusted: true, timed: true}
	for _, reason := range verify.Reasons() {
		names[result(reason)] = true
	}
	return names
}()

// TestTheListOfReasonsIsClosed: who watches them counts on it.
func TestTheListOfReasonsIsClosed(t *testing.T) {
	want := []verify.Reason{"ok", "malformed", "unknown", "expired", "revoked", "wrong-user", "user-disabled", "unavailable"}
	if got := verify.Reasons(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEverySampleIsThereFromTheStart(t *testing.T) {
	samples := newFixture(t, verify.Config{}).scrape(t)
	for name := range counted {
		if value, there := samples[name]; !there || value != 0 {
			t.Errorf("%s: %v, %t", name, value, there)
		}
	}
}

func TestMetricsTellWhatTheCacheHadToSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := &broken{Memory: newMemory(t)}
		f := newFixture(t, verify.Config{Cache: records})
		secret, nobodys := f.mint(t, token.Record{}), token.Mint()
		for _, c := range []struct {
			name   string
			before func()
			check  token.Secret
			result verify.Reason
			also   []string
		}{
			{"first", func() {}, secret, verify.OK, []string{miss}},
			{"second", func() {}, secret, verify.OK, []string{hit}},
			{"old", func() { time.Sleep(ttl) }, secret, verify.OK, []string{old}},
			{"store away", func() { time.Sleep(ttl); f.source.replace(away) }, secret, verify.OK, []string{old, trusted}},
			{"away for long", func() { time.Sleep(stale) }, secret, verify.Unavailable, []string{miss}},
			{"store back", func() { f.source.replace(nil) }, secret, verify.OK, []string{miss}},
			{"unknown", func() {}, nobodys, verify.Unknown, []string{miss}},
			{"still unknown", func() {}, nobodys, verify.Unknown, []string{unknown}},
			{"garbage", func() { records.lie = []byte("\x03?") }, secret, verify.OK, []string{garbled}},
			{"another version's", func() { records.lie = []byte("{}") }, secret, verify.OK, []string{miss}},
			{"cache fails", func() { records.lie, records.failing = nil, true }, secret, verify.OK, []string{failed}},
			{"revoked", func() { records.failing = false; f.end(t, secret) }, secret, verify.Revoked, []string{buried}},
		} {
			c.before()
			want := map[string]float64{result(c.result): 1, timed: 1}
			for _, name := range c.also {
				want[name] = 1
			}
			if diff := cmp.Diff(want, f.changed(t, func() { f.expect(t, c.check, c.result) })); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
		want := map[string]float64{result(verify.Malformed): 1, timed: 1}
		if diff := cmp.Diff(want, f.changed(t, func() { f.Check(t.Context(), "alice", "x") })); diff != "" {
			t.Errorf("malformed (-want +got):\n%s", diff)
		}
	})
}

// end revokes a token in the store, and has it forgotten.
func (f *fixture) end(t *testing.T, secret token.Secret) {
	t.Helper()
	f.revoke(t, secret)
	if err := f.Forget(t.Context(), secret.Digest()); err != nil {
		t.Fatal(err)
	}
}

func TestDurationIsWhatTheCheckTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, verify.Config{})
		f.source.replace(hang)
		f.expect(t, token.Mint(), verify.Unavailable)
		if got := f.scrape(t)[`tokend_validation_duration_seconds_sum`]; got != 1 {
			t.Errorf("got %v s, want 1 s", got)
		}
	})
}

func TestNoRegistererMeansNoMetrics(t *testing.T) {
	f := newFixture(t, verify.Config{})
	v, err := verify.New(verify.Config{Source: f.source, Cache: newMemory(t), Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Check(t.Context(), "alice", f.mint(t, token.Record{}).Reveal()); !got.OK() {
		t.Errorf("got %s", got.Reason)
	}
}
