package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"tokend/config"
)

func TestWhatCrossesTheNetworkInTheClearIsToldOf(t *testing.T) {
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil)), cfg: config.Config{Store: config.Store{URL: "postgres://u@db.example/d"}}}
	n.warnOfPlaces()
	if !strings.Contains(log.String(), `because="[store] url: whoever is on the way to the database can answer`) {
		t.Errorf("the log says %q", &log)
	}
	for _, c := range []struct{ store, direct, cache, keys string }{
		{store: "sqlite:/var/lib/tokend/tokend.db", cache: "memory:"},
		{store: "postgres://u@db.example/d", keys: "[store] url"},
		{store: "postgres://u@db.example/d?sslmode=disable", keys: "[store] url"},
		{store: "postgres://u@db.example/d?sslmode=prefer", keys: "[store] url"},
		{store: "postgres://u@db.example/d?sslmode=require", keys: "[store] url"},   // whoever answers
		{store: "postgres://u@db.example/d?sslmode=verify-ca", keys: "[store] url"}, // any server of the same authority
		{store: "postgres://u@db.example/d?sslmode=verify-full"},
		{store: "postgres://u@127.0.0.1,db.example/d", keys: "[store] url"},
		{store: "postgres://u@localhost,127.0.0.1,[::1]/d?sslmode=disable"},
		{store: "postgres://u@/d?host=/run/postgresql"},
		{store: "postgres://u@/d?host=/run/postgresql", direct: "postgres://u@10.0.0.1/d", keys: "[store] direct_url"},
		{store: "postgres://u@localhost/d", cache: "redis://cache.example", keys: "[cache] url"},
		{store: "postgres://u@localhost/d", cache: "redis+sentinel://127.0.0.1:1,cache.example:2/name", keys: "[cache] url"},
		{store: "postgres://u@localhost/d", cache: "redis://[::1]:2"},
		{store: "postgres://u@localhost/d", cache: "redis://localhost"},
		{store: "postgres://u@localhost/d", cache: "redis+sentinel://127.0.0.1/name", keys: "[cache] url"},
		{store: "postgres://u@localhost/d", cache: "redis+cluster://127.0.0.1:1,[::1]:2", keys: "[cache] url"},
		{store: "postgres://u@localhost/d", cache: "rediss+cluster://cache.example"},
		{store: "postgres://u@db.example/d", cache: "redis://10.0.0.1:6379", keys: "[store] url [cache] url"},
	} {
		var keys []string
		for _, warning := range exposed(config.Config{Store: config.Store{URL: c.store, DirectURL: c.direct}, Cache: config.Cache{URL: c.cache}}) {
			key, _, _ := strings.Cut(warning, ":")
			keys = append(keys, key)
		}
		if got := strings.Join(keys, " "); got != c.keys {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}
