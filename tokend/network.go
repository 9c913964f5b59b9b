package main

import (
	"net"
	"slices"
	"strings"

	"tokend/config"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// exposed says what crosses a network where others can listen and answer.
func exposed(cfg config.Config) (warnings []string) {
	for _, url := range []struct{ key, value string }{
		{"[store] url", cfg.Store.URL}, {"[store] direct_url", cfg.Store.DirectURL}, {"[knox] url", cfg.Knox.URL},
	} {
		if config.IsPostgreSQL(url.value) && slices.ContainsFunc(server.Unproven(url.value), distant) {
			warnings = append(warnings, url.key+": "+unproven)
		}
	}
	if cfg.SODAR.Endpoint && distant(cfg.HTTP.Listen) {
		warnings = append(warnings, "[sodar] endpoint: whoever is on the way to [http] listen can read the tokens that are sent there; let it be an address of this machine (127.0.0.1:8480) behind a server with TLS")
	}
	if !config.IsRedis(cfg.Cache.URL) {
		return warnings
	}
	url, err := config.ParseRedis(cfg.Cache.URL)
	others := url.Kind != "" // a Sentinel or a Cluster leads to servers that are not in the URL
	if err == nil && !url.TLS && (others || slices.ContainsFunc(url.Servers, distant)) {
		warnings = append(warnings, "[cache] url: whoever is on the way to Redis can read its password, and hold back what was revoked; rediss instead of redis would keep them out")
	}
	return warnings
}

// unproven is what is wrong with the way to a database.
const unproven = "whoever is on the way to the database can answer in its place, and say yes to anybody; sslmode=verify-full in the url would keep them out"

// names are the configured rules.
func names(cfg config.Names) token.Names {
	return token.Names{Rules: cfg.Rules, DomainCase: cfg.DomainCase}
}

// distant tells whether the address of a server, with a port or without, is not this machine's.
func distant(server string) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		host = strings.Trim(server, "[]")
	}
	ip := net.ParseIP(host)
	return host != "localhost" && !strings.HasPrefix(host, "/") && (ip == nil || !ip.IsLoopback())
}
