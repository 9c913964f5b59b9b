package config_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/config"
)

func TestWhatAReloadCanTakeOver(t *testing.T) {
	for _, tt := range []struct {
		text             string
		restart, changed []string
	}{
		{"", nil, nil},
		{"[auth]\nsocket = '/a'", []string{"auth.socket"}, nil},
		{"[auth]\npeers = ['root']", nil, []string{"auth.peers"}},
		{"[auth]\npeers = ['irods', 'root']", nil, []string{"auth.peers"}},
		{"[admin]\nsocket = '/a'", []string{"admin.socket"}, nil},
		{"[admin]\npeers = ['@wheel']", nil, []string{"admin.peers"}},
		{"[http]\nmetrics = ''", []string{"http.metrics"}, nil},
		{"[store]\nurl = 'sqlite:/a'", []string{"store.url"}, nil},
		{"[store]\nurl = 'postgres://u@p/d'\ndirect_url = 'postgres://u@h/d'", []string{"store.url", "store.direct_url"}, nil},
		{"[http]\nlisten = ':1'", []string{"http.listen"}, nil},
		{"[sodar]\nendpoint = true", []string{"sodar.endpoint"}, nil},
		{kn + "refresh = '1s'", []string{"knox.url"}, []string{"knox.refresh"}},
		{"[names]\nrules = ['a -> b']\ndomain_case = 'lower'", nil, []string{"names.rules", "names.domain_case"}},
		{"[cache]\nentries = 1", []string{"cache.entries"}, nil},
		{"[cache]\nttl = '1s'", nil, []string{"cache.ttl"}},
		{"[cache]\nttl = '1m'", nil, nil},
		{"[cache]\nstale = '1s'", nil, []string{"cache.stale"}},
		{"[tokens]\ndefault_expiry = '1h'", nil, []string{"tokens.default_expiry"}},
		{"[tokens]\nmax_expiry = '1h'", nil, []string{"tokens.default_expiry", "tokens.max_expiry"}},
		{"[tokens]\nmax_per_user = 1", nil, []string{"tokens.max_per_user"}},
		{"[log]\nlevel = 'debug'", nil, []string{"log.level"}},
		{"[log]\nformat = 'json'", []string{"log.format"}, nil},
		{"[log]\nformat = 'json'\nlevel = 'debug'", []string{"log.format"}, []string{"log.level"}},
	} {
		next, err := config.Parse("tokend.toml", []byte(tt.text))
		if err != nil {
			t.Fatalf("%s\n%v", tt.text, err)
		}
		was := config.Default()
		if diff := cmp.Diff(tt.restart, was.NeedsRestart(next)); diff != "" {
			t.Errorf("%s\nNeedsRestart (-want +got):\n%s", tt.text, diff)
		}
		if diff := cmp.Diff(tt.changed, was.Changed(next)); diff != "" {
			t.Errorf("%s\nChanged (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestEveryKeyIsCompared(t *testing.T) {
	next := fullConfig()
	was := config.Default()
	got := append(was.NeedsRestart(next), was.Changed(next)...)
	want := config.Keys()
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys that differ (-want +got):\n%s", diff)
	}
}
