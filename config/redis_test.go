package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/config"
)

// TestTheURLOfARedisSaysAllOfThat: each row has every field that its URL says.
func TestTheURLOfARedisSaysAllOfThat(t *testing.T) {
	for text, want := range map[string]config.Redis{
		"redis://h":                    {Servers: []string{"h"}},
		"redis://h/":                   {Servers: []string{"h"}},
		"redis://h:6380/0":             {Servers: []string{"h:6380"}},
		"redis://h/3":                  {Servers: []string{"h"}, Database: 3},
		"redis://[::1]:6379/65535/":    {Servers: []string{"[::1]:6379"}, Database: 65535},
		"redis://tokend@h":             {Servers: []string{"h"}, User: "tokend"},
		"redis://at%40site@h/1":        {Servers: []string{"h"}, User: "at@site", Database: 1},
		"redis://tokend@site@h":        {Servers: []string{"h"}, User: "tokend@site"},
		"redis+sentinel://a@b@c,d/m":   {Kind: "sentinel", Servers: []string{"c", "d"}, User: "a@b", Set: "m"},
		"rediss://tokend@h:6380/15":    {Servers: []string{"h:6380"}, User: "tokend", Database: 15, TLS: true},
		"redis+sentinel://a,b:26380/m": {Kind: "sentinel", Servers: []string{"a", "b:26380"}, Set: "m"},
		"redis+sentinel://a/m/2":       {Kind: "sentinel", Servers: []string{"a"}, Set: "m", Database: 2},
		"rediss+sentinel://tokend@a,[::1]:1,c/my.master/12": {Kind: "sentinel", Servers: []string{"a", "[::1]:1", "c"}, User: "tokend", Set: "my.master", Database: 12, TLS: true},
		"redis+sentinel://a/A-z_0.9":                        {Kind: "sentinel", Servers: []string{"a"}, Set: "A-z_0.9"},
		"redis+cluster://a":                                 {Kind: "cluster", Servers: []string{"a"}},
		"rediss+cluster://tokend@a:1,b:2/":                  {Kind: "cluster", Servers: []string{"a:1", "b:2"}, User: "tokend", TLS: true},
	} {
		got, err := config.ParseRedis(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}
