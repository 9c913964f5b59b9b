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
	Knox   Knox
	Names  Names
	SODAR  SODAR
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

	// Listen is the host:port of what users and other programs ask, under the same rules. Nothing is
	// served there but what is turned on: SODAR.Endpoint. Default: 127.0.0.1:8480.
	Listen string
}

// Store is [store]: where the records of tokens are kept.
type Store struct {
	// URL is "sqlite:" and the absolute path of the database's file, for one
	// daemon, or that of a PostgreSQL database, for any number of them:
	// postgres://user@host:port/database, with libpq's parameters for TLS and
	// for several hosts. No password stands in it; no error quotes it all the
	// same. The empty string, beside Knox.URL alone: tokend keeps no tokens of its
	// own. Default: sqlite:/var/lib/tokend/tokend.db.
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
	// half of them for logins alone; one more hears of changes, and up to two more are there
	// for a moment, where one of these gives no answer. SQLite has its
	// own number. Default: 10.
	Connections int
}

// Knox is [knox]: the tables of SODAR, or of another Django site with
// django-rest-knox, whose tokens are good, too. They are only read.
type Knox struct {
	// URL is that of the PostgreSQL database, under the rules of Store.URL.
	// Default: empty, for none; the other keys are refused then, but for Prefix, which
	// imported tokens may have.
	URL string

	// PasswordFile holds the password of the user in URL, as Store.PasswordFile
	// does. Default: empty, for no password.
	PasswordFile string

	// Connections is how many the daemon has to the database at most, 1 to 1,000; up to two
	// more are there for a moment, where one of these gives no answer. Default: 4.
	Connections int

	// TokenTable and UserTable are where the tokens and their owners are, with a
	// schema and a dot before the name or without. Default: empty, for
	// tokens_sodarauthtoken, else knox_authtoken; and users_user, else auth_user.
	TokenTable, UserTable string

	// UsernameColumn and ActiveColumn are the columns of the users that hold the
	// name and whether the user may log in. Default: empty, for username and
	// is_active.
	UsernameColumn, ActiveColumn string

	// Scheme is which Knox fills the tables: "4.2" or "5". Default: empty, for what
	// the length of the column token_key says.
	Scheme string

	// Prefix is what stands before the 64 digits of tokens (Knox 5's
	// TOKEN_PREFIX; those from before it are taken, too): at most 10 visible ASCII characters, and not irt_. Default: empty.
	Prefix string

	// Refresh is how long a cached record of Knox is believed without asking its
	// database again, and so how long a token that is deleted there may still be
	// good: 1 second to 1 hour. The daemon reads what is used again before that.
	// Default: 15 seconds.
	Refresh time.Duration
}

// Names is [names]: whose tokens open iRODS for the name that it presents.
// Default: those of the owner who is called exactly the same.
type Names struct {
	// Rules, in their order: the first that fits the whole name gives the owner's.
	// Each is a text, a regular expression, " -> " and the owner's name.
	Rules []token.NameRule

	// DomainCase is what becomes of what stands behind the last @ after that: keep,
	// upper or lower. Default: keep.
	DomainCase token.DomainCase
}

// SODAR is [sodar]: what takes SODAR's place for others.
type SODAR struct {
	// Endpoint is whether GET /irodsbackend/api/auth on HTTP.Listen says with 200 or
	// 401, as SODAR does, whether the user and token of HTTP Basic open iRODS.
	// Default: false.
	Endpoint bool
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
		HTTP:   HTTP{Metrics: "127.0.0.1:9480", Listen: "127.0.0.1:8480"},
		Store:  Store{URL: "sqlite:/var/lib/tokend/tokend.db", Connections: 10},
		Knox:   Knox{Connections: 4, Refresh: 15 * time.Second},
		Names:  Names{DomainCase: token.KeepCase},
		Cache:  Cache{URL: "memory:", Entries: 100_000, TTL: time.Minute, Stale: 10 * time.Minute},
		Tokens: Tokens{DefaultExpiry: token.Forever, MaxExpiry: token.Forever, MaxPerUser: 50},
		Log:    Log{Level: slog.LevelInfo, Format: "text"},
	}
}
