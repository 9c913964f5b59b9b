package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cacheSchemes are those of the URLs of a Redis, each also with TLS.
var cacheSchemes = []string{
	"redis", "redis+sentinel", "redis+cluster",
	"rediss", "rediss+sentinel", "rediss+cluster",
}

// IsRedis reports whether that is the cache of the URL, and not this process' memory.
func IsRedis(cache string) bool {
	scheme, _, _ := strings.Cut(cache, "://")
	return slices.Contains(cacheSchemes, scheme)
}

func isSentinel(cache string) bool { return strings.Contains(cache, "+sentinel://") }

func hasTLS(cache string) bool { return strings.HasPrefix(cache, "rediss") }

// readCache never quotes the value, as readStore doesn't.
func readCache(v value) (string, error) {
	text, err := v.text("memory:")
	switch {
	case err != nil:
		return "", err
	case text == "memory:":
		return text, nil
	case !IsRedis(text):
		return "", errors.New("write memory:, redis://host:port, redis+sentinel://host,host/name or redis+cluster://host,host (rediss for TLS)")
	}
	_, err = ParseRedis(text)
	return text, err
}

var (
	hostAndPort = regexp.MustCompile(`^([0-9A-Za-z_.-]+|\[[0-9A-Fa-f:.%]+\])(:[0-9]{1,5})?$`)
	// setName is what Sentinel lets a set of servers be called.
	setName = regexp.MustCompile(`^[0-9A-Za-z_.-]+$`)
)

// Redis is what the URL of one says.
type Redis struct {
	Kind     string   // "": one server; "sentinel", or "cluster"
	TLS      bool     //
	User     string   // of Redis' access rules; empty: the default one
	Servers  []string // host:port, or the host alone
	Set      string   // what a Sentinel calls the servers
	Database int      //
}

// ParseRedis reads the URL of a Redis. No error quotes any of it: a password may be there all the same.
func ParseRedis(text string) (r Redis, err error) {
	hosts, rest := cutHosts(text)
	u, err := url.Parse(rest)
	if err != nil {
		return r, errors.New("this is no URL; write redis://user@host:port, and %40 for an @ in the user's name")
	}
	if _, has := u.User.Password(); has {
		return r, errors.New("write no password into the URL; put it into a file of its own, and name that in password_file")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return r, errors.New("the URL takes no options behind a ? or #; timeouts are tokend's own, and TLS has its own keys")
	}
	r.User, r.Servers = u.User.Username(), strings.Split(hosts, ",")
	for _, server := range r.Servers {
		_, port, _ := net.SplitHostPort(server)
		if number, err := strconv.Atoi(cmp.Or(port, "1")); !hostAndPort.MatchString(server) || err != nil || number < 1 || number > 65535 {
			return r, errors.New("what stands behind :// is no address of a server; write host:port, or user@host:port, and no password")
		}
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	r.TLS, r.Kind = scheme == "rediss", kind
	path := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	if kind == "sentinel" {
		if r.Set, path, _ = strings.Cut(path, "/"); !setName.MatchString(r.Set) {
			return r, errors.New("the URL does not say which servers; write the name that Sentinel knows them by, as in redis+sentinel://host,host/mymaster")
		}
	}
	switch {
	case kind == "" && len(r.Servers) > 1:
		return r, errors.New("several servers are a Sentinel's or a Cluster's; write redis+sentinel:// or redis+cluster://")
	case path == "":
		return r, nil
	case kind == "cluster":
		return r, errors.New("a Cluster has only one database; write nothing behind the servers")
	}
	number, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return r, errors.New("write only the number of a database behind the servers, such as /0, or nothing")
	}
	r.Database = int(number)
	return r, nil
}

// cutHosts returns the hosts of an URL, and the rest with another in their place: a list of
// them is no URL for Go.
func cutHosts(text string) (hosts, rest string) {
	from := strings.Index(text, "://") + len("://")
	to := from + strings.IndexAny(text[from:]+"/", "/?#")
	from += strings.LastIndexByte(text[from:to], '@') + 1
	return text[from:to], text[:from] + "host" + text[to:]
}

// readFile reads the path of a file that holds no secret, or the daemon's alone.
func readFile(v value) (string, error) {
	path, err := v.text("/etc/tokend/redis-ca.pem")
	if err != nil || path == "" || filepath.IsAbs(path) && !strings.HasSuffix(path, "/") {
		return path, err
	}
	return "", fmt.Errorf("%.120q is not the absolute path of a file; write one such as /etc/tokend/redis-ca.pem", path)
}

// compareCache judges the keys of [cache] that depend on others.
func (f *file) compareCache() {
	c := f.config.Cache
	if f.keys["cache.url"].bad {
		return
	}
	say := func(key, why string) { f.problem(f.keys["cache."+key].at, "[cache] %s: %s", key, why) }
	if IsRedis(c.URL) && !f.keys["store.url"].bad && !IsPostgreSQL(f.config.Store.URL) {
		say("url", "a Redis is for several daemons, which share a PostgreSQL database; write memory:, which is faster, or name a postgres:// url in [store]")
	}
	if r, err := ParseRedis(c.URL); IsRedis(c.URL) && err == nil && r.User != "" && c.PasswordFile == "" { // nobody would be logged in
		say("url", "the user in it needs a password; name the file with it in password_file, or leave the user out")
	}
	for _, k := range []struct {
		key, value string
		fits       bool
		why        string
	}{
		{"password_file", c.PasswordFile, IsRedis(c.URL), "this cache has no password; leave it out, or name a redis:// url"},
		{"sentinel_password_file", c.SentinelPasswordFile, isSentinel(c.URL), "there is no Sentinel in the url; leave it out, or write redis+sentinel://"},
		{"ca_file", c.CAFile, hasTLS(c.URL), "there is no TLS in the url; leave it out, or write rediss:// (with two s)"},
		{"cert_file", c.CertFile, hasTLS(c.URL), "there is no TLS in the url; leave it out, or write rediss:// (with two s)"},
		{"key_file", c.KeyFile, hasTLS(c.URL), "there is no TLS in the url; leave it out, or write rediss:// (with two s)"},
	} {
		if k.value != "" && !k.fits {
			say(k.key, k.why)
		}
	}
	switch {
	case c.CertFile != "" && c.KeyFile == "":
		say("cert_file", "a certificate is of no use without its key; name that in key_file")
	case c.KeyFile != "" && c.CertFile == "":
		say("key_file", "a key is of no use without its certificate; name that in cert_file")
	}
}
