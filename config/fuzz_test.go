package config_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"

	"tokend/config"
)

var errorLine = regexp.MustCompile(`^tokend\.toml:[1-9][0-9]*:[1-9][0-9]*: [[:print:]\pL].*$`)

// FuzzParse: no text makes Parse panic; what it accepts, written out in full,
// gives the same configuration again; each line of what it refuses says where.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"", full, "[auth]\npeers = []", "auth = { socket = '/a' }\nauth.peers = ['b']", "[[log]]\n[log.level]\nx = 1", "[\"\\n\"]\n\"\\u0000\" = \"\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("tokend.toml", data)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !errorLine.MatchString(line) {
					t.Errorf("error line %q", line)
				}
			}
			return
		}
		again, err := config.Parse("tokend.toml", written(t, c))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, written(t, c))
		}
		if diff := cmp.Diff(c, again, sameRule, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("written out and read again (-first +second):\n%s", diff)
		}
	})
}

// written spells every key of c.
func written(t *testing.T, c config.Config) []byte {
	type section = map[string]any
	knox := section{"url": c.Knox.URL}
	if c.Knox.URL != "" {
		knox = section{
			"url": c.Knox.URL, "password_file": c.Knox.PasswordFile, "connections": c.Knox.Connections,
			"token_table": c.Knox.TokenTable, "user_table": c.Knox.UserTable,
			"username_column": c.Knox.UsernameColumn, "active_column": c.Knox.ActiveColumn,
			"scheme": c.Knox.Scheme, "prefix": c.Knox.Prefix, "refresh": c.Knox.Refresh.String(),
		}
	}
	rules := []string{}
	for _, r := range c.Names.Rules {
		rules = append(rules, r.String())
	}
	text, err := toml.Marshal(map[string]section{
		"knox":  knox,
		"auth":  {"socket": c.Auth.Socket, "peers": c.Auth.Peers},
		"admin": {"socket": c.Admin.Socket, "peers": c.Admin.Peers},
		"http":  {"metrics": c.HTTP.Metrics, "listen": c.HTTP.Listen},
		"names": {"rules": rules, "domain_case": string(c.Names.DomainCase)},
		"sodar": {"endpoint": c.SODAR.Endpoint},
		"store": {
			"url": c.Store.URL, "direct_url": c.Store.DirectURL,
			"password_file": c.Store.PasswordFile, "connections": c.Store.Connections,
		},
		"cache": {
			"url": c.Cache.URL, "password_file": c.Cache.PasswordFile, "sentinel_password_file": c.Cache.SentinelPasswordFile,
			"ca_file": c.Cache.CAFile, "cert_file": c.Cache.CertFile, "key_file": c.Cache.KeyFile,
			"entries": c.Cache.Entries, "ttl": c.Cache.TTL.String(), "stale": c.Cache.Stale.String(),
		},
		"tokens": {
			"default_expiry": c.Tokens.DefaultExpiry.String(), "max_expiry": c.Tokens.MaxExpiry.String(),
			"max_per_user": c.Tokens.MaxPerUser,
		},
		"log": {"level": strings.ToLower(c.Log.Level.String()), "format": c.Log.Format},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
