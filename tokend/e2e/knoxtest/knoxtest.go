// Package knoxtest makes databases as SODAR and other Django sites leave them, for tests.
package knoxtest

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/token"
)

//go:embed *.sql
var files embed.FS

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Site is a database as Django leaves it, and a role that may read what tokend needs.
type Site struct {
	Role          string // may read exactly what docs/sodar.md grants
	Tokens, Users string // the tables
	Scheme        token.Scheme
	server        *servers.PostgreSQL
	database      string
	owner         *pgx.Conn
}

// sites are those that there are. Each is made by the DDL beside this file.
var sites = map[string]Site{
	"sodar-1.2": {Tokens: "knox_authtoken", Users: "users_user", Scheme: token.Knox4},
	"sodar-1.3": {Tokens: "tokens_sodarauthtoken", Users: "users_user", Scheme: token.Knox5},
	"knox-5":    {Tokens: "knox_authtoken", Users: "auth_user", Scheme: token.Knox5},
}

// Kinds are the names of all of them.
func Kinds() []string { return slices.Sorted(maps.Keys(sites)) }

// New makes the database of such a site on the server, for as long as the test runs.
func New(t *testing.T, server *servers.PostgreSQL, kind string) *Site {
	t.Helper()
	s := sites[kind]
	s.server = server
	var err error
	s.database, err = server.NewDatabase(t.Context(), "template0")
	must(err)
	s.Role = s.database + "_reader"
	s.owner, err = pgx.Connect(t.Context(), server.URL(s.database))
	must(err)
	t.Cleanup(func() {
		_ = s.owner.Close(context.Background()) // the server may have been ended meanwhile
		last, err := pgx.Connect(context.Background(), s.OwnerURL())
		must(err)
		_, err = last.Exec(context.Background(), `DROP OWNED BY `+s.Role+`; DROP ROLE `+s.Role)
		must(err)
		must(last.Close(context.Background()))
		must(server.DropDatabase(context.Background(), s.database))
	})
	s.Exec(DDL(kind))
	s.Exec(`CREATE ROLE ` + s.Role + ` LOGIN`)
	s.Grant()
	return &s
}

// DDL makes the tables of such a site.
func DDL(kind string) string {
	text, err := files.ReadFile(kind + ".sql")
	must(err)
	return string(text)
}

// Exec runs SQL as the owner of the tables.
func (s *Site) Exec(sql string, args ...any) {
	_, err := s.owner.Exec(context.Background(), sql, args...)
	must(err)
}

// Grant gives exactly what docs/sodar.md says.
func (s *Site) Grant() {
	s.Exec(`GRANT SELECT (digest, token_key, user_id, expiry) ON ` + s.Tokens + ` TO ` + s.Role)
	s.Exec(`GRANT SELECT (id, username, is_active) ON ` + s.Users + ` TO ` + s.Role)
}

// Database is its name.
func (s *Site) Database() string { return s.database }

// URL leads there as the role.
func (s *Site) URL() string { return s.server.URLAs(s.Role, s.database) }

// User makes one, and returns the number.
func (s *Site) User(name string) (id int) {
	must(s.owner.QueryRow(context.Background(), `INSERT INTO `+s.Users+` (username) VALUES ($1) RETURNING id`, name).Scan(&id))
	return id
}

// NewToken is one that Knox could make.
func NewToken() token.Knox {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	secret, err := token.ParseKnox(hex.EncodeToString(b), "")
	must(err)
	return secret
}

// Digest is what the site keeps in its place.
func (s *Site) Digest(secret token.Knox) token.Digest {
	d, ok := secret.Digest(s.Scheme)
	if !ok {
		panic("it is spelled otherwise")
	}
	return d
}

// Keep makes the row that Knox would keep. Expiry is nil or a time.
func (s *Site) Keep(secret token.Knox, user int, expiry any) {
	key := secret.Reveal()[:15]
	if s.Scheme == token.Knox4 {
		key = key[:8]
	}
	columns, values := "digest, token_key, user_id, expiry", "$1, $2, $3, $4"
	if s.Tokens == "tokens_sodarauthtoken" {
		columns, values = columns+", sodar_label", values+", 'laptop'"
	}
	s.Exec(`INSERT INTO `+s.Tokens+` (`+columns+`) VALUES (`+values+`)`, s.Digest(secret).String(), key, user, expiry)
}

// Mint makes a token of the user that never expires.
func (s *Site) Mint(user int) token.Knox {
	secret := NewToken()
	s.Keep(secret, user, nil)
	return secret
}

// Owner is the connection of the tables' owner.
func (s *Site) Owner() *pgx.Conn { return s.owner }

// OwnerURL leads there as the tables' owner.
func (s *Site) OwnerURL() string { return s.server.URL(s.database) }
