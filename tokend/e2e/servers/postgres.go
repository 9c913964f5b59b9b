package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// WithPassword is a role's name, to be made, that the server asks for its password.
const WithPassword = "with_password"

// PostgreSQL is a cluster of databases with a server on it, which is reached by a
// Unix socket. Its superuser is tokend.
type PostgreSQL struct {
	dir  string
	port string
	cmd  *exec.Cmd

	databases atomic.Int64
}

// StartPostgreSQL makes an empty cluster and starts a server on it, with the settings
// such as "max_connections=500".
func StartPostgreSQL(settings ...string) (*PostgreSQL, error) {
	return begin(&PostgreSQL{port: "5432"}, settings) // which is only a part of the socket's name
}

// StartPostgreSQLWithTLS starts one that is reached by TLS as well, on a free port.
func StartPostgreSQLWithTLS(settings ...string) (*PostgreSQL, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err := errors.Join(err, listener.Close()); err != nil {
		return nil, err
	}
	return begin(&PostgreSQL{port: port}, append(settings, "listen_addresses=127.0.0.1", "ssl=on"))
}

func begin(p *PostgreSQL, settings []string) (*PostgreSQL, error) {
	var err error
	if p.dir, err = folder(); err != nil {
		return nil, err
	}
	if err := p.start(settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), p.Stop())
	}
	return p, nil
}

func (p *PostgreSQL) start(settings []string) error {
	if err := run(p.program("initdb", "-D", p.data(), "-U", "tokend", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")); err != nil {
		return err
	}
	rules := "local replication all trust\nlocal all " + WithPassword + " scram-sha-256\nlocal all all trust\nhostssl all all 127.0.0.1/32 trust\n"
	if err := errors.Join(
		writeFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(rules)),
		writeCertificate(p.Certificate(), filepath.Join(p.data(), "server.key")),
	); err != nil {
		return err
	}
	return p.Serve(settings...)
}

// Serve starts a server on the cluster that is there.
func (p *PostgreSQL) Serve(settings ...string) error {
	args := []string{"-D", p.data(), "-k", p.dir, "-p", p.port, "-h", ""}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	p.cmd = p.program("postgres", args...)
	if err := launch(p.cmd, filepath.Join(p.dir, "log")); err != nil {
		return err
	}
	return await(p.cmd, filepath.Join(p.dir, "log"), func(ctx context.Context) error {
		return p.Exec(ctx, "SELECT 1")
	})
}

// Standby makes a copy of the cluster, with a server that follows this one.
func (p *PostgreSQL) Standby(settings ...string) (*PostgreSQL, error) {
	dir, err := folder()
	if err != nil {
		return nil, err
	}
	s := &PostgreSQL{dir: dir, port: p.port}
	err = run(s.program("pg_basebackup", "-h", p.dir, "-p", p.port, "-U", "tokend", "-D", s.data(), "-R", "-c", "fast", "--no-sync"))
	if err == nil {
		err = s.Serve(settings...)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a standby: %w", err), s.Stop())
	}
	return s, nil
}

// Promote makes a standby a primary.
func (p *PostgreSQL) Promote() error {
	return run(p.program("pg_ctl", "promote", "-D", p.data(), "-w"))
}

// Kill ends the server by SIGKILL and leaves all as it is; Serve starts it again.
func (p *PostgreSQL) Kill() error { return end(p.cmd, syscall.SIGKILL, 0) }

// Dir is the folder of its socket.
func (p *PostgreSQL) Dir() string { return p.dir }

// program is one of PostgreSQL's, of the newest version that Debian has installed.
func (p *PostgreSQL) program(name string, args ...string) *exec.Cmd {
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); err == nil && len(found) > 0 {
		name = slices.MaxFunc(found, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	}
	return command(p.dir, name, args...)
}

func (p *PostgreSQL) data() string { return filepath.Join(p.dir, "data") }

// URL is where a database is, for its superuser.
func (p *PostgreSQL) URL(database string) string { return p.URLAs("tokend", database) }

// URLAs is where a database is, for the role.
func (p *PostgreSQL) URLAs(role, database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {p.dir}, "port": {p.port}, "user": {role}}.Encode()
}

// NewDatabase makes a copy of a database, template0 being the empty one, and returns its
// name.
func (p *PostgreSQL) NewDatabase(ctx context.Context, template string) (name string, err error) {
	name = fmt.Sprintf("test%d", p.databases.Add(1))
	return name, p.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template+" STRATEGY file_copy")
}

// DropDatabase removes one, whoever is connected to it.
func (p *PostgreSQL) DropDatabase(ctx context.Context, name string) error {
	return p.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
}

// Exec does something in the database postgres, as the superuser.
func (p *PostgreSQL) Exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, p.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Port is where a server with TLS listens, on 127.0.0.1.
func (p *PostgreSQL) Port() string { return p.port }

// Certificate is the file with the one that a server with TLS shows.
func (p *PostgreSQL) Certificate() string { return filepath.Join(p.data(), "server.crt") }

// Stop ends the server, if it runs, and removes all of it.
func (p *PostgreSQL) Stop() error {
	return errors.Join(end(p.cmd, syscall.SIGQUIT, 20*time.Second), os.RemoveAll(p.dir))
}
