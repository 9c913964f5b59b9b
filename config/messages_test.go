package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tokend/config"
)

// pg is a store for several daemons.
const kn = "[knox]\nurl = 'postgres://u@h/d'\n"

const pg = "[store]\nurl = 'postgres://u@h/d'\n"

// Each row is a file and all that is said of it, without the name of the file.
func TestWhatIsSaidOfABadValue(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"[auth]\nsocket = ''", `2:1: [auth] socket: "" is not an absolute path; write one such as /run/tokend/auth.sock`},
		{"[auth]\nsocket = 'run/a'", `2:1: [auth] socket: "run/a" is not an absolute path; write one such as /run/tokend/auth.sock`},
		{"[auth]\nsocket = '@tokend'", `2:1: [auth] socket: "@tokend" is not an absolute path; write one such as /run/tokend/auth.sock`},
		{"[auth]\nsocket = '/" + strings.Repeat("s", 107) + "'", `2:1: [auth] socket: the path has 108 bytes; a socket's has at most 107`},
		{"[auth]\nsocket = \"/a\\u0000\"", `2:1: [auth] socket: "/a\x00" has a control character; leave it out`},
		{"[auth]\nsocket = '/run/'", `2:1: [auth] socket: "/run/" is a directory; add the name of the socket`},
		{"[auth]\nsocket = true", `2:1: [auth] socket: this is true or false; write text in quotes, such as "/run/tokend/auth.sock"`},
		{"[auth]\npeers = []", `2:1: [auth] peers: the list is empty, so that nobody could ask; name one user or @group at least`},
		{"[auth]\npeers = 'root'", `2:1: [auth] peers: this is text; write a list, such as ["root", "@wheel"]`},
		{"[auth]\npeers = [0]", `2:10: [auth] peers: this is a whole number; write text in quotes, such as "root"`},
		{"[auth]\npeers = [['root']]", `2:1: [auth] peers: this is a list; write text in quotes, such as "root"`},
		{"[auth]\npeers = ['']", `2:10: [auth] peers: "" is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['@']", `2:10: [auth] peers: "@" is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['@@a']", `2:10: [auth] peers: "@@a" is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['a:b']", `2:10: [auth] peers: "a:b" is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['a ']", `2:10: [auth] peers: "a " is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['-1']", `2:10: [auth] peers: "-1" is no peer; write a user name, a user number, or @ and a group's name or number`},
		{"[auth]\npeers = ['@4294967295']", `2:10: [auth] peers: "@4294967295" is past the highest number of a user or group, 4294967294`},
		{"[auth]\npeers = ['99999999999999999999']", `2:10: [auth] peers: "99999999999999999999" is past the highest number of a user or group, 4294967294`},
		{"[http]\nmetrics = '9480'", `2:1: [http] metrics: "9480" is no address; write host:port, such as 127.0.0.1:9480 or [::1]:9480, or "" for no listener`},
		{"[http]\nmetrics = '::1:9480'", `2:1: [http] metrics: "::1:9480" is no address; write host:port, such as 127.0.0.1:9480 or [::1]:9480, or "" for no listener`},
		{"[http]\nmetrics = 'a b:9480'", `2:1: [http] metrics: "a b:9480" is no address; write host:port, such as 127.0.0.1:9480 or [::1]:9480, or "" for no listener`},
		{"[http]\nmetrics = 'localhost:0'", `2:1: [http] metrics: "localhost:0" has no port from 1 to 65535; write one, such as 127.0.0.1:9480`},
		{"[http]\nmetrics = 'localhost:65536'", `2:1: [http] metrics: "localhost:65536" has no port from 1 to 65535; write one, such as 127.0.0.1:9480`},
		{"[http]\nmetrics = 'localhost:http'", `2:1: [http] metrics: "localhost:http" has no port from 1 to 65535; write one, such as 127.0.0.1:9480`},
		{"[http]\nmetrics = false", `2:1: [http] metrics: this is true or false; write text in quotes, such as "127.0.0.1:9480"`},
		{"[store]\nurl = ''", `2:1: [store] url: without it there are no tokens but those of Knox, and [knox] url names none either; write sqlite: and an absolute path, such as sqlite:/var/lib/tokend/tokend.db, or postgres://user@host/database`},
		{"[store]\nurl = 'sqlite:tokend.db'", `2:1: [store] url: write sqlite: and an absolute path, such as sqlite:/var/lib/tokend/tokend.db, or postgres://user@host/database`},
		{"[store]\nurl = 'postgres://u@h:x/d'", `2:1: [store] url: this is no URL; write postgres://user@host:port/database, and %40 for an @ in a name`},
		{"[store]\nurl = 'postgres://u:p@h/d'", `2:1: [store] url: write no password into the URL; put it into a file of its own, and name that in password_file`},
		{"[store]\nurl = 'postgres://u@h/d?password=p'", `2:1: [store] url: write no password into the URL; put it into a file of its own, and name that in password_file`},
		{"[store]\nurl = 'postgres://u@h/d?sslmode=%'", `2:1: [store] url: what stands behind the ? is badly escaped; write name=value&name=value, and %26 for an & in a value`},
		{"[store]\nurl = 'postgres://u@h'", `2:1: [store] url: the URL names no database; write postgres://user@host:port/database`},
		{"[store]\nurl = 'postgres://h/d'", `2:1: [store] url: the URL names no user; write postgres://user@host:port/database`},
		{"[store]\nurl = 'postgres://u@/d'", `2:1: [store] url: the URL names no host; write postgres://user@host:port/database, or ?host=/run/postgresql for a socket`},
		{"[store]\nurl = 'postgres://u@h/d#x'", `2:1: [store] url: the URL has a #; write %23 if it belongs to a name`},
		{"[store]\nurl = 'postgres://u@h/d?sslrootcert=/a&sslrootcert=/b'", `2:1: [store] url: "sslrootcert" stands 2 times behind the ?; write it once`},
		{"[store]\nurl = 'postgres://u@h/d?ssl=on'", `2:1: [store] url: "ssl" is no parameter for this; there are host, port, user, sslmode, sslrootcert, sslcert, sslkey, sslsni, target_session_attrs`},
		{"[store]\nurl = 'postgres://u@h/d?target_session_attrs=readwrite'", `2:1: [store] url: "readwrite" is no target_session_attrs for this, where the primary has to answer; there are read-write, primary, any`},
		{"[store]\nurl = 'postgres://u@h/d?target_session_attrs=prefer-standby'", `2:1: [store] url: "prefer-standby" is no target_session_attrs for this, where the primary has to answer; there are read-write, primary, any`},
		{"[store]\nurl = 'postgres://u@h/d?sslcert=/c'", `2:1: [store] url: sslcert and sslkey go together; write both, or neither`},
		{"[store]\nurl = 'postgres://u@h/d?sslkey=/k'", `2:1: [store] url: sslcert and sslkey go together; write both, or neither`},
		{"[store]\nurl = 'postgres://u@h/d?sslmode=verify_full'", `2:1: [store] url: "verify_full" is no sslmode; there are disable, allow, prefer, require, verify-ca, verify-full`},
		{"[store]\nconnections = 1", `2:1: [store] connections: 1 is out of range; write 2 to 1000`},
		{"[store]\npassword_file = 'etc/p'", `2:1: [store] password_file: "etc/p" is neither an absolute path nor the name of a credential; write one such as /etc/tokend/store.password`},
		{"[store]\npassword_file = '/p'", `2:1: [store] password_file: the database is a file, which has no password; leave it out, or name a postgres:// url`},
		{"[store]\ndirect_url = 'db.example'", `2:1: [store] direct_url: write postgres://user@host/database, the address of the server itself, where url leads to a pooler before it`},
		{"[store]\ndirect_url = 'sqlite:/t'", `2:1: [store] direct_url: write postgres://user@host/database, the address of the server itself, where url leads to a pooler before it`},
		{"[store]\ndirect_url = 'postgres://u:p@h/d'", `2:1: [store] direct_url: write no password into the URL; put it into a file of its own, and name that in password_file`},
		{"[store]\ndirect_url = 'postgres://u@h'", `2:1: [store] direct_url: the URL names no database; write postgres://user@host:port/database`},
		{"[store]\ndirect_url = 'postgres://u@h/d'", `2:1: [store] direct_url: the database is a file, which is always reached directly; leave it out, or name a postgres:// url`},
		{"[store]\nurl = 'sqlite:///tokend.db'", `2:1: [store] url: write one slash behind sqlite:, not more`},
		{"[store]\nurl = 'sqlite:/var/'", `2:1: [store] url: the path is a directory; add the name of the database's file`},
		{"[store]\nurl = 'sqlite:/t.db?mode=ro'", `2:1: [store] url: the path has a ?, #, % or control character; it takes no options and no escapes, so leave it out`},
		{"[cache]\nurl = 'memory'", `2:1: [cache] url: write memory:, redis://host:port, redis+sentinel://host,host/name or redis+cluster://host,host (rediss for TLS)`},
		{"[cache]\nurl = 'redis://u:p@h'", `2:1: [cache] url: write no password into the URL; put it into a file of its own, and name that in password_file`},
		{"[cache]\nurl = 'redis://h:x'", `2:1: [cache] url: what stands behind :// is no address of a server; write host:port, or user@host:port, and no password`},
		{"[cache]\nurl = 'redis://u%@h'", `2:1: [cache] url: this is no URL; write redis://user@host:port, and %40 for an @ in the user's name`},
		{"[cache]\nurl = 'redis://'", `2:1: [cache] url: what stands behind :// is no address of a server; write host:port, or user@host:port, and no password`},
		{"[cache]\nurl = 'redis://h:65536'", `2:1: [cache] url: what stands behind :// is no address of a server; write host:port, or user@host:port, and no password`},
		{"[cache]\nurl = 'redis://h:0'", `2:1: [cache] url: what stands behind :// is no address of a server; write host:port, or user@host:port, and no password`},
		{"[cache]\nurl = 'redis://[::1]:0'", `2:1: [cache] url: what stands behind :// is no address of a server; write host:port, or user@host:port, and no password`},
		{"[store]\nca_file = '/p'", `2:1: [store] has no key "ca_file"; for TLS, write ?sslmode=verify-full&sslrootcert=/path into its url (also sslcert and sslkey)`},
		{"[cache]\nurl = 'redis://a,b'", `2:1: [cache] url: several servers are a Sentinel's or a Cluster's; write redis+sentinel:// or redis+cluster://`},
		{"[cache]\nurl = 'redis://h/0?timeout=1s'", `2:1: [cache] url: the URL takes no options behind a ? or #; timeouts are tokend's own, and TLS has its own keys`},
		{"[cache]\nurl = 'redis://h/0?'", `2:1: [cache] url: the URL takes no options behind a ? or #; timeouts are tokend's own, and TLS has its own keys`},
		{"[cache]\nurl = 'redis://h?'", `2:1: [cache] url: the URL takes no options behind a ? or #; timeouts are tokend's own, and TLS has its own keys`},
		{"[cache]\nurl = 'redis://h/0#1'", `2:1: [cache] url: the URL takes no options behind a ? or #; timeouts are tokend's own, and TLS has its own keys`},
		{"[cache]\nurl = 'redis://h/zero'", `2:1: [cache] url: write only the number of a database behind the servers, such as /0, or nothing`},
		{"[cache]\nurl = 'redis+sentinel://a,b'", `2:1: [cache] url: the URL does not say which servers; write the name that Sentinel knows them by, as in redis+sentinel://host,host/mymaster`},
		{"[cache]\nurl = 'redis+sentinel://a/my master'", `2:1: [cache] url: the URL does not say which servers; write the name that Sentinel knows them by, as in redis+sentinel://host,host/mymaster`},
		{"[cache]\nurl = 'redis+sentinel://a/m@1'", `2:1: [cache] url: the URL does not say which servers; write the name that Sentinel knows them by, as in redis+sentinel://host,host/mymaster`},
		{"[cache]\nurl = 'redis+sentinel://a/üm'", `2:1: [cache] url: the URL does not say which servers; write the name that Sentinel knows them by, as in redis+sentinel://host,host/mymaster`},
		{"[cache]\nurl = 'redis+sentinel://a,b/m/x'", `2:1: [cache] url: write only the number of a database behind the servers, such as /0, or nothing`},
		{"[cache]\nurl = 'redis+cluster://a,b/1'", `2:1: [cache] url: a Cluster has only one database; write nothing behind the servers`},
		{"[cache]\nurl = 'redis://h'", `2:1: [cache] url: a Redis is for several daemons, which share a PostgreSQL database; write memory:, which is faster, or name a postgres:// url in [store]`},
		{"[cache]\npassword_file = '/p'", `2:1: [cache] password_file: this cache has no password; leave it out, or name a redis:// url`},
		{pg + "[cache]\nurl = 'rediss://tokend@h'", `4:1: [cache] url: the user in it needs a password; name the file with it in password_file, or leave the user out`},
		{pg + "[cache]\nurl = 'redis://h'\nsentinel_password_file = '/p'", `5:1: [cache] sentinel_password_file: there is no Sentinel in the url; leave it out, or write redis+sentinel://`},
		{pg + "[cache]\nurl = 'redis://h'\nca_file = '/p'", `5:1: [cache] ca_file: there is no TLS in the url; leave it out, or write rediss:// (with two s)`},
		{pg + "[cache]\nurl = 'rediss://h'\nca_file = 'p'", `5:1: [cache] ca_file: "p" is not the absolute path of a file; write one such as /etc/tokend/redis-ca.pem`},
		{pg + "[cache]\nurl = 'redis://h'\ncert_file = '/c'\nkey_file = '/k'", `5:1: [cache] cert_file: there is no TLS in the url; leave it out, or write rediss:// (with two s)` + "\n" +
			`6:1: [cache] key_file: there is no TLS in the url; leave it out, or write rediss:// (with two s)`},
		{pg + "[cache]\nurl = 'rediss://h'\ncert_file = '/p'", `5:1: [cache] cert_file: a certificate is of no use without its key; name that in key_file`},
		{pg + "[cache]\nurl = 'rediss://h'\nkey_file = '/p'", `5:1: [cache] key_file: a key is of no use without its certificate; name that in cert_file`},
		{"[http]\nlisten = 'x'", `2:1: [http] listen: "x" is no address; write host:port, such as 127.0.0.1:8480 or [::1]:8480, or "" for no listener`},
		{"[knox]\nurl = 'sqlite:/t'", `2:1: [knox] url: write postgres://user@host/database, the database of SODAR or of another Django site with django-rest-knox`},
		{"[knox]\nurl = 'postgres://u:p@h/d'", `2:1: [knox] url: write no password into the URL; put it into a file of its own, and name that in password_file`},
		{"[knox]\nrefresh = '5s'", `2:1: [knox] refresh: there is no [knox] url that it is about; write that, or leave it out`},
		{kn + "refresh = '0s'", `3:1: [knox] refresh: "0s" is out of range; write 1s to 1h`},
		{kn + "connections = 0", `3:1: [knox] connections: 0 is out of range; write 1 to 1000`},
		{kn + "token_table = 'a.b.c'", `3:1: [knox] token_table: "a.b.c" is no table's name; write it as it is, without quotes in it, such as knox_authtoken or schema.knox_authtoken`},
		{kn + "username_column = 'u.name'", `3:1: [knox] username_column: "u.name" is no column's name; write it as it is, such as username`},
		{kn + "scheme = '4.1'", `3:1: [knox] scheme: "4.1" is none of 4.2, 5`},
		{kn + "prefix = '01234567890'", `3:1: [knox] prefix: "01234567890" is too long, or has a blank or a character beyond ASCII; write the site's TOKEN_PREFIX, of at most 10 characters`},
		{kn + "prefix = 'a b'", `3:1: [knox] prefix: "a b" is too long, or has a blank or a character beyond ASCII; write the site's TOKEN_PREFIX, of at most 10 characters`},
		{kn + "prefix = 'sodär.'", `3:1: [knox] prefix: "sodär." is too long, or has a blank or a character beyond ASCII; write the site's TOKEN_PREFIX, of at most 10 characters`},
		{kn + "prefix = 'irt_'", `3:1: [knox] prefix: tokens that begin with irt_ are tokend's own; give Knox another TOKEN_PREFIX`},
		{kn + "prefix = 'a_'\nscheme = '4.2'", `3:1: [knox] prefix: Knox 4.2 has none; leave it out`},
		{"[names]\nrules = 'a -> b'", `2:1: [names] rules: this is text; write a list of texts in quotes, or []`},
		{"[names]\nrules = ['a']", `2:10: [names] rules: it is no rule: write a regular expression for the whole name, an arrow and the owner's name, such as '(.+)@B\.ORG -> $1@b.org'`},
		{"[names]\ndomain_case = 'Lower'", `2:1: [names] domain_case: "Lower" is none of keep, upper, lower`},
		{"[sodar]\nendpoint = 'yes'", `2:1: [sodar] endpoint: this is text; write true or false, without quotes`},
		{"[http]\nmetrics = ':08480'\n[sodar]\nendpoint = true", `2:1: [http] metrics and [http] listen, ":08480" and "127.0.0.1:8480", are the same address; give each its own`},
		{"[sodar]\nendpoint = true\n[http]\nlisten = '[::1]:99'\nmetrics = '[::1]:99'", `5:1: [http] metrics and [http] listen, "[::1]:99" and "[::1]:99", are the same address; give each its own`},
		{"[http]\nmetrics = 'localhost:8480'\n[sodar]\nendpoint = true", `2:1: [http] metrics and [http] listen, "localhost:8480" and "127.0.0.1:8480", are the same address; give each its own`},
		{"[http]\nmetrics = '[::ffff:127.0.0.1]:8480'\n[sodar]\nendpoint = true", `2:1: [http] metrics and [http] listen, "[::ffff:127.0.0.1]:8480" and "127.0.0.1:8480", are the same address; give each its own`},
		{"[http]\nmetrics = '[::0]:8480'\n[sodar]\nendpoint = true", `2:1: [http] metrics and [http] listen, "[::0]:8480" and "127.0.0.1:8480", are the same address; give each its own`},
		{"[http]\nlisten = ''\n[sodar]\nendpoint = true", `4:1: [sodar] endpoint: nothing listens for it; write [http] listen, such as "127.0.0.1:8480"`},
		{"[cache]\nentries = 0", `2:1: [cache] entries: 0 is out of range; write 1 to 1000000000`},
		{"[cache]\nentries = 1000000001", `2:1: [cache] entries: 1000000001 is out of range; write 1 to 1000000000`},
		{"[cache]\nentries = 99999999999999999999", `2:1: [cache] entries: 99999999999999999999 is out of range; write 1 to 1000000000`},
		{"[cache]\nentries = 1.5", `2:1: [cache] entries: this is a decimal number; write a whole number without quotes, such as 50`},
		{"[cache]\nttl = 60", `2:1: [cache] ttl: this is a whole number; write text in quotes, such as "60s"`},
		{"[cache]\nttl = '60'", `2:1: [cache] ttl: "60" has no unit; write 60s or 60m`},
		{"[cache]\nttl = ''", `2:1: [cache] ttl: "" is no duration; write hours, minutes and seconds, such as 60s, 10m or 1h30m`},
		{"[cache]\nttl = '1d'", `2:1: [cache] ttl: "1d" is no duration; write hours, minutes and seconds, such as 60s, 10m or 1h30m`},
		{"[cache]\nttl = '0s'", `2:1: [cache] ttl: "0s" is out of range; write more than 0s and at most 1h`},
		{"[cache]\nttl = '1h1ns'", `2:1: [cache] ttl: "1h1ns" is out of range; write more than 0s and at most 1h`},
		{"[cache]\nttl = 10:00:00", `2:1: [cache] ttl: this is a date or time; write text in quotes, such as "60s"`},
		{"[cache]\nstale = '-1s'", `2:1: [cache] stale: "-1s" is out of range; write 0s (off) or more and at most 24h`},
		{"[cache]\nstale = '24h1s'", `2:1: [cache] stale: "24h1s" is out of range; write 0s (off) or more and at most 24h`},
		{"[tokens]\nmax_expiry = 30", `2:1: [tokens] max_expiry: this is a whole number; write text in quotes, such as "30d"`},
		{"[tokens]\nmax_expiry = '1y'", `2:1: [tokens] max_expiry: "1y" is no expiry; write a duration (90m, 36h, 30d, 2w), or never`},
		{"[tokens]\nmax_expiry = 'irt_0123456789abcdef'", `2:1: [tokens] max_expiry: "irt_[redacted]" is no expiry; write a duration (90m, 36h, 30d, 2w), or never`},
		{"[tokens]\nmax_expiry = '90'", `2:1: [tokens] max_expiry: "90" has no unit; write 90h or 90d`},
		{"[tokens]\nmax_per_user = '50'", `2:1: [tokens] max_per_user: this is text; write a whole number without quotes, such as 50`},
		{"[tokens]\nmax_per_user = -1", `2:1: [tokens] max_per_user: -1 is out of range; write 1 to 1000000000`},
		{"[log]\nlevel = 'INFO'", `2:1: [log] level: "INFO" is none of debug, info`},
		{"[log]\nlevel = 'warn'", `2:1: [log] level: "warn" is none of debug, info`},
		{"[log]\nformat = 'xml'", `2:1: [log] format: "xml" is none of text, json`},
	} {
		refused(t, tt.text, tt.want)
	}
}

func TestWhatIsSaidOfABadKey(t *testing.T) {
	const all = "[auth], [admin], [http], [store], [knox], [names], [sodar], [cache], [tokens], [log]"
	for _, tt := range []struct{ text, want string }{
		{"[auth]\npeer = []", `2:1: [auth] has no key "peer"; did you mean "peers"?`},
		{"[auth]\n  Sokcet = 1", `2:3: [auth] has no key "Sokcet"; did you mean "socket"?`},
		{"[tokens]\nmax-expiry = 1", `2:1: [tokens] has no key "max-expiry"; did you mean "max_expiry"?`},
		{"[auth]\nsckt = 1", `2:1: [auth] has no key "sckt"; did you mean "socket"?`},
		{"[auth]\nskt = 1", `2:1: [auth] has no key "skt"; it has socket, peers`},
		{"[cache]\nutl = 1", `2:1: [cache] has no key "utl"; did you mean "url"?`},
		{"[tokens]\nMAX_EXPIRY = 1", `2:1: [tokens] has no key "MAX_EXPIRY"; did you mean "max_expiry"?`},
		{"[tokens]\nfau_expiry = 1", `2:1: [tokens] has no key "fau_expiry"; did you mean "max_expiry"?`}, // default_expiry is farther
		{"[auth]\ncolour = 1", `2:1: [auth] has no key "colour"; it has socket, peers`},
		{"[auth]\nlevel = 1", `2:1: [auth] has no key "level"; it belongs under [log]`},
		{"[tokens]\nurl = 1", `2:1: [tokens] has no key "url"; it belongs under [store] or [knox] or [cache]`},
		{"[http]\ncolour = ''", `2:1: [http] has no key "colour"; it has metrics, listen`},
		{"[auth]\n\"a\\nb\" = 1", `2:1: [auth] has no key "a\nb"; it has socket, peers`},
		{"[cahce]\nttl = 60", `1:2: there is no section "cahce"; did you mean [cache]?`},
		{"[database]\nurl = ''", `1:2: there is no section "database"; there are ` + all},
		{"cahce.ttl = '60s'", `1:1: there is no section "cahce"; did you mean [cache]?`},
		{"cahce = {}", `1:1: there is no section "cahce"; did you mean [cache]?`},
		{"ttl = '60s'", `1:1: "ttl" stands above the first section; it belongs under [cache]`},
		{"colour = 1", `1:1: "colour" stands above the first section, and none has such a key; there are ` + all},
		{"auth = 1", `1:1: auth is a section; write [auth] on a line, and its keys below`},
		{"[[auth]]", `1:3: [[auth]] begins one section of several; write [auth]`},
		{"[auth.socket]\nx = 1", `1:2: [auth] socket: this is a section; write text in quotes, such as "/run/tokend/auth.sock"`},
		{"auth.socket.x = 1", `1:1: [auth] socket: this is a section; write text in quotes, such as "/run/tokend/auth.sock"`},
		{"[auth]\nsocket = {}", `2:1: [auth] socket: this is a section; write text in quotes, such as "/run/tokend/auth.sock"`},
		{"[auth.x]\ny = 1\n[auth]", `1:2: [auth] has no key "x"; it has socket, peers`},
		{"[log]\nlevel = 'info'\nlevel = 'info'", `3:1: [log] level stands a second time; keep one of the two, the other is on line 2`},
		{"[log]\n[auth]\n[log]", `3:2: [log] begins a second time; put its keys under the first, on line 1`},
		{"log.level = 'info'\n[log]", `2:2: [log] begins a second time; put its keys under the first, on line 1`},
	} {
		refused(t, tt.text, tt.want)
	}
}

func TestWhatIsSaidOfKeysThatConflict(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"[auth]\nsocket = '/a'\n[admin]\nsocket = '/a'", `4:1: [auth] socket and [admin] socket are both "/a"; give each its own`},
		{"[auth]\nsocket = '/a'\n[admin]\nsocket = '/b/../a'", `4:1: [auth] socket and [admin] socket are both "/a"; give each its own`},
		{"[admin]\nsocket = '/run/tokend/auth.sock'", `2:1: [auth] socket and [admin] socket are both "/run/tokend/auth.sock"; give each its own`},
		{"[tokens]\ndefault_expiry = '31d'\nmax_expiry = '30d'", `2:1: [tokens] default_expiry: "31d" is longer than max_expiry, "30d"; write at most that, or leave default_expiry out`},
		{"[tokens]\nmax_expiry = '30d'\ndefault_expiry = '0'", `3:1: [tokens] default_expiry: "never" is longer than max_expiry, "30d"; write at most that, or leave default_expiry out`},
		{"[tokens]\nmax_expiry = '30d'\ndefault_expiry = '1y'", `3:1: [tokens] default_expiry: "1y" is no expiry; write a duration (90m, 36h, 30d, 2w), or never`},
		{"[auth]\nsocket = 'a'\n[admin]\nsocket = '/run/tokend/auth.sock'", `2:1: [auth] socket: "a" is not an absolute path; write one such as /run/tokend/auth.sock`},
	} {
		refused(t, tt.text, tt.want)
	}
}

func TestWhatIsSaidOfTextThatIsNoTOML(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"[cache]\nttl = 60s\nstale = 1", `2:9: this is no TOML: strings must be quoted`},
		{"[log]\nlevel = warn", `2:9: this is no TOML: unexpected character U+0077 'w' at start of value; text stands in straight quotes, "like this"`},
		{"[log]\nlevel = info", `2:12: this is no TOML: expected newline but got U+006F 'o'; text stands in straight quotes, "like this"`},
		{"[http]\nmetrics = 127.0.0.1:9480", `2:16: this is no TOML: expected newline but got U+002E '.'; text stands in straight quotes, "like this"`},
		{"[log]\nlevel = “info”", `2:9: this is no TOML: unexpected character U+00E2 'â' at start of value; text stands in straight quotes, "like this"`},
		{"[http]\nmetrics = :9480", `2:11: this is no TOML: unexpected character U+003A ':' at start of value; text stands in straight quotes, "like this"`},
		{"[auth]\nsocket = /run/x.sock", `2:10: this is no TOML: unexpected character U+002F '/' at start of value; text stands in straight quotes, "like this"`},
		{"[auth]\npeers = [root]", `2:10: this is no TOML: unexpected character U+0072 'r' at start of value; text stands in straight quotes, "like this"`},
		{"[tokens]\nmax_per_user = 05", `2:16: this is no TOML: integers cannot have leading zeroes`},
		{"[log]\nlevel = 'info' 1", `2:16: this is no TOML: expected newline but got U+0031 '1'`},
		{"\xef\xbb\xbf[cache", `1:6: this is no TOML: expected ']' to close table name`},
		{"[auth]\nsocket = '\xff'", `2:11: this is no TOML: invalid UTF-8 character in literal string`},
		{"\nauth = {}\n auth.socket = '/a'\n\n", `3:2: this is no TOML: key auth is already defined`},
		{"[log]\nlevel = 1\n=", "2:1: [log] level: this is a whole number; write text in quotes, such as \"debug\"\n" +
			`3:1: this is no TOML: invalid character at start of key: U+003D '='`},
		{"[tokens]\ndefault_expiry = '31d'\nmax_expiry = '30d'\n=", `4:1: this is no TOML: invalid character at start of key: U+003D '='`},
	} {
		refused(t, tt.text, tt.want)
	}
}

func TestEveryProblemIsTold(t *testing.T) {
	const text = `
[auth]
peers = [
  "root",
  "@", "a/b",
]
[tokens]
default_expiry = "never"
[auht]
[tokens]
max_expiry = "1d"
max_per_user = 0
`
	refused(t, text, `5:3: [auth] peers: "@" is no peer; write a user name, a user number, or @ and a group's name or number
5:8: [auth] peers: "a/b" is no peer; write a user name, a user number, or @ and a group's name or number
8:1: [tokens] default_expiry: "never" is longer than max_expiry, "1d"; write at most that, or leave default_expiry out
9:2: there is no section "auht"; did you mean [auth]?
10:2: [tokens] begins a second time; put its keys under the first, on line 7
12:1: [tokens] max_per_user: 0 is out of range; write 1 to 1000000000`)
}

func TestNoErrorQuotesAPassword(t *testing.T) {
	urls := []string{
		`"hunter2"`, `"hunter2:"`, `"sqlite://hunter2"`, `"sqlite:/hunter2?"`, `["hunter2"]`,
		`"hunter2`, `hunter2`, `"hunter2" "`, `{ hunter2 = "hunter2" }`,
	}
	for _, scheme := range []string{"postgres", "redis", "rediss", "redis+sentinel", "redis+cluster", "mysql"} {
		for _, password := range []string{"hunter2", "hunter2/1", "1/hunter2", "hunter2?1", "1?hunter2", "hunter2#1", "1#hunter2", "hunter2%1", "hunter2@1", "1,hunter2", "[hunter2"} {
			urls = append(urls, fmt.Sprintf("%q", scheme+"://u:"+password+"@h/d"), fmt.Sprintf("%q", scheme+"://:"+password+"@h:1,i:2/d"))
		}
	}
	for _, url := range urls {
		for _, key := range []string{"store]\nurl", "store]\ndirect_url", "cache]\nurl"} {
			_, err := config.Parse("tokend.toml", []byte("["+key+" = "+url+"\npassword = 'hunter2'"))
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("[%s = %s: %v", key, url, err)
			}
		}
	}
}

// refused checks that Parse says want of the text, a line for each problem.
func refused(t *testing.T, text, want string) {
	t.Helper()
	got, err := config.Parse("tokend.toml", []byte(text))
	if err == nil {
		t.Errorf("%s\naccepted, want: %s", text, want)
		return
	}
	if diff := cmp.Diff("tokend.toml:"+strings.ReplaceAll(want, "\n", "\ntokend.toml:"), err.Error()); diff != "" {
		t.Errorf("%s\n(-want +got):\n%s", text, diff)
	}
	if diff := cmp.Diff(config.Config{}, got); diff != "" {
		t.Errorf("%s\nreturned settings beside the error:\n%s", text, diff)
	}
}
