package config

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"tokend/tokend/token"
)

// key is one key of the file.
type key struct {
	name string // its section, a dot and itself: "auth.socket"
	live bool   // whether a running daemon takes a new value over
	set  func(*Config, value) []problem
	same func(a, b *Config) bool
}

const (
	restart = false
	reload  = true
)

// keys is every key there is, in the order in which they are told.
var keys = []key{
	one("auth.socket", restart, func(c *Config) *string { return &c.Auth.Socket }, readSocket),
	many("auth.peers", reload, func(c *Config) *[]string { return &c.Auth.Peers }, readPeer),
	one("admin.socket", restart, func(c *Config) *string { return &c.Admin.Socket }, readSocket),
	many("admin.peers", reload, func(c *Config) *[]string { return &c.Admin.Peers }, readPeer),
	one("http.metrics", restart, func(c *Config) *string { return &c.HTTP.Metrics }, readAddress),
	one("http.listen", restart, func(c *Config) *string { return &c.HTTP.Listen }, readListen),
	one("store.url", restart, func(c *Config) *string { return &c.Store.URL }, readStore),
	one("store.direct_url", restart, func(c *Config) *string { return &c.Store.DirectURL }, readDirect),
	one("store.password_file", restart, func(c *Config) *string { return &c.Store.PasswordFile }, readCredential),
	one("store.connections", restart, func(c *Config) *int { return &c.Store.Connections }, readConnections),
	one("knox.url", restart, func(c *Config) *string { return &c.Knox.URL }, readKnox),
	one("knox.password_file", restart, func(c *Config) *string { return &c.Knox.PasswordFile }, readCredential),
	one("knox.connections", restart, func(c *Config) *int { return &c.Knox.Connections }, readFew),
	one("knox.token_table", restart, func(c *Config) *string { return &c.Knox.TokenTable }, readTable),
	one("knox.user_table", restart, func(c *Config) *string { return &c.Knox.UserTable }, readTable),
	one("knox.username_column", restart, func(c *Config) *string { return &c.Knox.UsernameColumn }, readColumn),
	one("knox.active_column", restart, func(c *Config) *string { return &c.Knox.ActiveColumn }, readColumn),
	one("knox.scheme", restart, func(c *Config) *string { return &c.Knox.Scheme }, readScheme),
	one("knox.prefix", restart, func(c *Config) *string { return &c.Knox.Prefix }, readPrefix),
	one("knox.refresh", reload, func(c *Config) *time.Duration { return &c.Knox.Refresh }, readRefresh),
	some("names.rules", reload, func(c *Config) *[]token.NameRule { return &c.Names.Rules }, readRule),
	one("names.domain_case", reload, func(c *Config) *token.DomainCase { return &c.Names.DomainCase }, readDomainCase),
	one("sodar.endpoint", restart, func(c *Config) *bool { return &c.SODAR.Endpoint }, readBool),
	one("cache.url", restart, func(c *Config) *string { return &c.Cache.URL }, readCache),
	one("cache.password_file", restart, func(c *Config) *string { return &c.Cache.PasswordFile }, readCredential),
	one("cache.sentinel_password_file", restart, func(c *Config) *string { return &c.Cache.SentinelPasswordFile }, readCredential),
	one("cache.ca_file", restart, func(c *Config) *string { return &c.Cache.CAFile }, readFile),
	one("cache.cert_file", restart, func(c *Config) *string { return &c.Cache.CertFile }, readFile),
	one("cache.key_file", restart, func(c *Config) *string { return &c.Cache.KeyFile }, readFile),
	one("cache.entries", restart, func(c *Config) *int { return &c.Cache.Entries }, readCount),
	one("cache.ttl", reload, func(c *Config) *time.Duration { return &c.Cache.TTL }, readTTL),
	one("cache.stale", reload, func(c *Config) *time.Duration { return &c.Cache.Stale }, readStale),
	one("tokens.default_expiry", reload, func(c *Config) *token.Life { return &c.Tokens.DefaultExpiry }, readLife),
	one("tokens.max_expiry", reload, func(c *Config) *token.Life { return &c.Tokens.MaxExpiry }, readLife),
	one("tokens.max_per_user", reload, func(c *Config) *int { return &c.Tokens.MaxPerUser }, readCount),
	one("log.level", reload, func(c *Config) *slog.Level { return &c.Log.Level }, readLevel),
	one("log.format", restart, func(c *Config) *string { return &c.Log.Format }, readFormat),
}

// one is a key with one value.
func one[T any](name string, live bool, field func(*Config) *T, read func(value) (T, error)) key {
	set := func(c *Config, v value) []problem {
		got, err := read(v)
		if err != nil {
			return []problem{{v.at, spoken(name) + ": " + err.Error()}}
		}
		*field(c) = got
		return nil
	}
	return key{name, live, set, sameField(field)}
}

// many is a key with a list of values, one or more.
func many[T any](name string, live bool, field func(*Config) *[]T, read func(value) (T, error)) key {
	return list(name, live, field, read, value.elements)
}

// some is a key with a list of values, or none.
func some[T any](name string, live bool, field func(*Config) *[]T, read func(value) (T, error)) key {
	return list(name, live, field, read, value.anyElements)
}

func list[T any](name string, live bool, field func(*Config) *[]T, read func(value) (T, error), elementsOf func(value) ([]value, error)) key {
	set := func(c *Config, v value) []problem {
		elements, err := elementsOf(v)
		if err != nil {
			return []problem{{v.at, spoken(name) + ": " + err.Error()}}
		}
		var all []T
		var problems []problem
		for _, element := range elements {
			got, err := read(element)
			if err != nil {
				problems = append(problems, problem{element.at, spoken(name) + ": " + err.Error()})
			}
			all = append(all, got)
		}
		if problems == nil {
			*field(c) = all
		}
		return problems
	}
	return key{name, live, set, sameField(field)}
}

func sameField[T any](field func(*Config) *T) func(a, b *Config) bool {
	return func(a, b *Config) bool { return reflect.DeepEqual(field(a), field(b)) }
}

// NeedsRestart returns the names of the keys in which next differs from c and
// which a running daemon cannot take over. Peers in another order differ.
func (c Config) NeedsRestart(next Config) []string { return differing(&c, &next, restart) }

// Changed returns the names of the keys in which next differs from c and which
// a running daemon takes over by reloading.
func (c Config) Changed(next Config) []string { return differing(&c, &next, reload) }

func differing(a, b *Config, live bool) []string {
	var names []string
	for _, k := range keys {
		if k.live == live && !k.same(a, b) {
			names = append(names, k.name)
		}
	}
	return names
}

// find returns the key of that name.
func find(name string) (key, bool) {
	i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return key{}, false
	}
	return keys[i], true
}

// sections returns the sections in order, without brackets.
func sections() []string {
	var names []string
	for _, k := range keys {
		section, _, _ := strings.Cut(k.name, ".")
		names = append(names, section)
	}
	return slices.Compact(names)
}

func isSection(name string) bool { return slices.Contains(sections(), name) }

// keysOf returns the keys of a section, without it.
func keysOf(section string) []string {
	var names []string
	for _, k := range keys {
		if name, ok := strings.CutPrefix(k.name, section+"."); ok {
			names = append(names, name)
		}
	}
	return names
}

// sectionsWith returns the sections that have a key of that name, in brackets.
func sectionsWith(name string) []string {
	var found []string
	for _, section := range sections() {
		if _, ok := find(section + "." + name); ok {
			found = append(found, "["+section+"]")
		}
	}
	return found
}

// spoken writes "auth.socket" as people do: "[auth] socket".
func spoken(name string) string {
	section, key, _ := strings.Cut(name, ".")
	return "[" + section + "] " + key
}
