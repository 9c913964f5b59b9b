// Package config is the one configuration of tokend: it loads the file
// strictly, checks every value, and says what is wrong and where. It opens no
// socket, looks up no user and starts nothing.
package config

import (
	"log/slog"
	"time"

	"tokend/tokend/token"
)

// Config is all that can be configured. Each field bears the name of its
// section in the file; a Config made by Load, Parse or Default is valid.
type Config struct {
	Auth   Auth
	Admin  Admin
	HTTP   HTTP
	Store  Store
	Cache  Cache
	Tokens Tokens
	Log    Log
}

// Auth is [auth]: the socket that pamhelper asks.
type Auth struct {
	// Socket is the path of the socket: absolute, of at most 107 bytes, which
	// is what the kernel takes. It must differ from Admin.Socket. Default:
	// /run/tokend/auth.sock.
	Socket string

	// Peers are who may ask: user names, user numbers in decimal, and groups
	// by name or number behind an @. It has one entry or more, and an entry
	// may stand twice. Only the spelling is checked here, not whether the user
	// or group exists. Default: root and irods.
	Peers []string
}

// Admin is [admin]: the socket of the HTTP API for root and the admin group.
type Admin struct {
	// Socket is the path of the socket, under the same rules as Auth.Socket,
	// from which it must differ. Default: /run/tokend/admin.sock.
	Socket string

	// Peers are who may manage every user's tokens, spelled like Auth.Peers.
	// Default: root.
	Peers []string
}

// HTTP is [http]: what listens on the network.
type HTTP struct {
	// Metrics is the host:port of /metrics, /healthz and /readyz; the port is
	// a number from 1 to 65535, and without a host it is every address of the
	// machine. The empty string turns the listener off. Default:
	// 127.0.0.1:9480.
	Metrics string
}

// Store is [store]: where the records of tokens are kept.
type Store struct {
	// URL is "sqlite:" and the absolute path of the database's file, for one
	// daemon, or that of a PostgreSQL database, for any number of them:
	// postgres://user@host:port/database, with libpq's parameters for TLS and
	// for several hosts. No password stands in it; no error quotes it all the
	// same. Default: sqlite:/var/lib/tokend/tokend.db.
	URL string

	// DirectURL leads to the same PostgreSQL database as URL, past the pooler
	// (such as PgBouncer) that URL then leads to, under the
	// same rules; what lasts longer than a transaction goes by it: hearing of
	// changes, and upgrades. Default: empty, where URL leads to the server
	// itself.
	DirectURL string

	// PasswordFile holds the password of the user in each postgres URL: an
	// absolute path, or the name of a credential in $CREDENTIALS_DIRECTORY. It
	// is read whenever a connection is made. Default: empty, for no password.
	PasswordFile string

	// Connections is how many the daemon has to PostgreSQL at most, 2 to 1,000,
	// half of them for logins alone; one more hears of changes. SQLite has its
	// own number. Default: 10.
	Connections int
}

// Cache is [cache]: where records are kept for the next login.
type Cache struct {
	// URL is "memory:", for this process' own, or that of a Redis which several
	// daemons over one PostgreSQL database share: redis://user@host:port/database,
	// redis+sentinel://host:port,host:port/name/database, or
	// redis+cluster://host:port,host:port; each with rediss in place of redis for
	// TLS. User (that of Redis' access rules), ports and database may be left out.
	// No password stands in it; no error quotes it all the same. Default: memory:.
	URL string

	// PasswordFile holds the password of the user at Redis, SentinelPasswordFile
	// that of the Sentinels, spelled like Store.PasswordFile; both are read
	// for each new connection. Default: empty, for no password.
	PasswordFile, SentinelPasswordFile string

	// CAFile has the authorities that the servers' certificates may be from:
	// absolute, PEM. Default: empty, for those that the system trusts. CertFile
	// and KeyFile, both or none, are the daemon's own certificate, where the
	// servers ask for one. All three are for TLS alone.
	CAFile, CertFile, KeyFile string

	// Entries is how many records the memory cache holds at most, 1 to
	// 1,000,000,000. It bounds the memory that the cache takes. Default:
	// 100,000.
	Entries int

	// TTL is how long a record may be believed without asking the store: more
	// than 0, and at most 1 hour. Default: 60 seconds.
	TTL time.Duration

	// Stale is how much longer than TTL a record may be believed while the
	// store cannot be reached, at most 24 hours; 0 turns that off. Default: 10
	// minutes.
	Stale time.Duration
}

// Tokens is [tokens]: what new tokens are like, and what old ones are held to.
type Tokens struct {
	// DefaultExpiry is the life of a token whose maker names none; 0 is no
	// end. It must not exceed MaxExpiry. Default: MaxExpiry, hence no end where
	// that is not set either.
	DefaultExpiry token.Life

	// MaxExpiry is how long any token may live, those minted before the limit
	// was set included; 0 is no limit. Default: 0.
	MaxExpiry token.Life

	// MaxPerUser is how many active tokens one user may have, 1 to
	// 1,000,000,000. Default: 50.
	MaxPerUser int
}

// Log is [log]: what is written to the standard error, and how.
type Log struct {
	// Level is the least grave level that is written: info, at which every
	// verdict and change is told, or debug. Default: info.
	Level slog.Level

	// Format is "text" or "json". Default: text.
	Format string
}

// Default returns the configuration of an empty file.
func Default() Config {
	return Config{
		Auth:   Auth{Socket: "/run/tokend/auth.sock", Peers: []string{"root", "irods"}},
		Admin:  Admin{Socket: "/run/tokend/admin.sock", Peers: []string{"root"}},
		HTTP:   HTTP{Metrics: "127.0.0.1:9480"},
		Store:  Store{URL: "sqlite:/var/lib/tokend/tokend.db", Connections: 10},
		Cache:  Cache{URL: "memory:", Entries: 100_000, TTL: time.Minute, Stale: 10 * time.Minute},
		Tokens: Tokens{DefaultExpiry: token.Forever, MaxExpiry: token.Forever, MaxPerUser: 50},
		Log:    Log{Level: slog.LevelInfo, Format: "text"},
	}
}
