package config_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tokend/config"
	"tokend/tokend/token"
)

// full differs from the default in every key.
const full = `
[auth]
socket = "/srv/auth.sock"
peers = ["irods", "@web", "999", "@10"]
[admin]
socket = "/srv/admin.sock"
peers = ["@wheel"]
[http]
metrics = ""
listen = "[::1]:8481"
[store]
url = "postgres://tokend@db.example:5433/tokens?sslmode=verify-full"
direct_url = "postgres://tokend@db.example:5432/tokens?sslmode=verify-full"
password_file = "/srv/password"
connections = 20
[knox]
url = "postgres://reader@sodar.example/sodar?sslmode=verify-full"
password_file = "knox-password"
connections = 1
token_table = "public.tokens"
user_table = "accounts_user"
username_column = "login"
active_column = "ok"
scheme = "5"
prefix = "irods_"
refresh = "3s"
[names]
rules = ['(.+)@B\.ORG -> $1@b.org', 'admin -> root']
domain_case = "lower"
[sodar]
endpoint = true
[cache]
url = "rediss+sentinel://tokend@a.example,b.example:26380/mymaster/2"
password_file = "redis-password"
sentinel_password_file = "/srv/sentinel"
ca_file = "/srv/ca.pem"
cert_file = "/srv/cert.pem"
key_file = "/srv/key.pem"
entries = 2_000
ttl = "90s"
stale = "0s"
[tokens]
default_expiry = "30d"
max_expiry = "52w"
max_per_user = 5
[log]
level = "debug"
format = "json"
`

func fullConfig() config.Config {
	return config.Config{
		Auth:  config.Auth{Socket: "/srv/auth.sock", Peers: []string{"irods", "@web", "999", "@10"}},
		Admin: config.Admin{Socket: "/srv/admin.sock", Peers: []string{"@wheel"}},
		HTTP:  config.HTTP{Listen: "[::1]:8481"},
		Knox: config.Knox{
			URL: "postgres://reader@sodar.example/sodar?sslmode=verify-full", PasswordFile: "knox-password", Connections: 1,
			TokenTable: "public.tokens", UserTable: "accounts_user", UsernameColumn: "login", ActiveColumn: "ok",
			Scheme: "5", Prefix: "irods_", Refresh: 3 * time.Second,
		},
		Names: config.Names{Rules: []token.NameRule{rule(`(.+)@B\.ORG -> $1@b.org`), rule(`admin -> root`)}, DomainCase: token.LowerCase},
		SODAR: config.SODAR{Endpoint: true},
		Store: config.Store{
			URL:          "postgres://tokend@db.example:5433/tokens?sslmode=verify-full",
			DirectURL:    "postgres://tokend@db.example:5432/tokens?sslmode=verify-full",
			PasswordFile: "/srv/password", Connections: 20,
		},
		Cache: config.Cache{
			URL:          "rediss+sentinel://tokend@a.example,b.example:26380/mymaster/2",
			PasswordFile: "redis-password", SentinelPasswordFile: "/srv/sentinel",
			CAFile: "/srv/ca.pem", CertFile: "/srv/cert.pem", KeyFile: "/srv/key.pem",
			Entries: 2000, TTL: 90 * time.Second,
		},
		Tokens: config.Tokens{DefaultExpiry: 30 * 86400, MaxExpiry: 364 * 86400, MaxPerUser: 5},
		Log:    config.Log{Level: slog.LevelDebug, Format: "json"},
	}
}

func rule(text string) token.NameRule {
	r, err := token.ParseNameRule(text)
	if err != nil {
		panic(err)
	}
	return r
}

// sameRule compares what was written.
var sameRule = cmp.Comparer(func(a, b token.NameRule) bool { return a.String() == b.String() })

func TestEveryKeyIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"sections":              full,
		"windows":               "\xef\xbb\xbf" + strings.ReplaceAll(full, "\n", "\r\n"),
		"sections out of order": "[log]" + after(full, "[log]") + before(full, "[log]"),
		"section in braces":     `log = { level = "debug", format = "json" }` + before(full, "[log]"),
		"dotted keys":           "log.level = \"debug\"\nlog.format = 'json'\n" + before(full, "[log]"),
	} {
		got, err := config.Parse("tokend.toml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(fullConfig(), got, sameRule); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestValuesAtTheirLimitsAreAccepted(t *testing.T) {
	for _, text := range []string{
		"[auth]\nsocket = \"/" + strings.Repeat("s", 106) + `"`,
		"[auth]\npeers = ['root', 'root', '0', '4294967294', '@4294967294', 'CORP\\joe', 'joe.doe@corp.example', '@domain users', 'host$', 'jörg', '_apt']",
		"[http]\nmetrics = ':1'",
		"[http]\nmetrics = '[::1]:65535'",
		"[http]\nmetrics = '[fe80::1%eth0]:9480'",
		"[http]\nmetrics = '0.0.0.0:9480'",
		"[http]\nmetrics = 'localhost:9480'",
		"[store]\nurl = 'sqlite:/t'",
		"[store]\nurl = 'postgresql://u@h1:5432,h2:5433/d?target_session_attrs=read-write'\npassword_file = 'store-password'",
		"[store]\nurl = 'postgres:///d?host=/run/postgresql&user=u'\nconnections = 1000",
		"[store]\nurl = 'postgres://u@pooler:6432/d'\ndirect_url = 'postgresql://u@h1,h2/d?target_session_attrs=read-write'",
		"[store]\ndirect_url = ''",
		"[store]\nurl = ''\n" + kn,
		kn + "token_table = 'Odd one.tok'\nrefresh = '1s'\nconnections = 1000\nscheme = ''\nprefix = '0123456789'",
		"[knox]\nurl = ''\nprefix = 'irods_'",
		"[names]\nrules = []\ndomain_case = 'upper'",
		"[http]\nlisten = ''\n[sodar]\nendpoint = false",
		"[http]\nmetrics = '127.0.0.1:8480'",
		"[http]\nmetrics = '127.0.0.2:8480'\n[sodar]\nendpoint = true",
		"[http]\nmetrics = ''\n[sodar]\nendpoint = true",
		pg + "[cache]\nurl = 'redis://h'",
		pg + "[cache]\nurl = 'redis://u@[::1]:6379/15'\npassword_file = '/p'",
		pg + "[cache]\nurl = 'rediss://h/0'",
		pg + "[cache]\nurl = 'redis+sentinel://a:1,b,[::1]:2/my-master'",
		pg + "[cache]\nurl = 'redis+cluster://[::1]:1,[::2]:2,c/'",
		"[cache]\npassword_file = ''\nca_file = ''",
		"[cache]\nentries = 1",
		"[cache]\nentries = 1_000_000_000",
		"[cache]\nttl = '1ns'",
		"[cache]\nttl = '1h'",
		"[cache]\nstale = '0'",
		"[cache]\nstale = '24h'",
		"[tokens]\nmax_per_user = 1",
		"[tokens]\ndefault_expiry = 'never'\nmax_expiry = '0'",
		"[tokens]\ndefault_expiry = '24h'\nmax_expiry = '1d'",
	} {
		if _, err := config.Parse("tokend.toml", []byte(text)); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
}

func TestDefaultExpiryFollowsTheLimit(t *testing.T) {
	for _, tt := range []struct {
		text              string
		wantDefault, want token.Life
	}{
		{"", token.Forever, token.Forever},
		{`default_expiry = "36h"`, 36 * 3600, token.Forever},
		{`max_expiry = "90d"`, 90 * 86400, 90 * 86400},
		{"max_expiry = \"90d\"\ndefault_expiry = \"30d\"", 30 * 86400, 90 * 86400},
		{"default_expiry = \"90d\"\nmax_expiry = \"90d\"", 90 * 86400, 90 * 86400},
	} {
		got, err := config.Parse("tokend.toml", []byte("[tokens]\n"+tt.text))
		if err != nil || got.Tokens.DefaultExpiry != tt.wantDefault || got.Tokens.MaxExpiry != tt.want {
			t.Errorf("%s: default %v, limit %v, error %v", tt.text, got.Tokens.DefaultExpiry, got.Tokens.MaxExpiry, err)
		}
	}
}

func before(s, sep string) string { head, _, _ := strings.Cut(s, sep); return head }

func after(s, sep string) string { _, tail, _ := strings.Cut(s, sep); return tail }
