package servers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer shares a few connections to a PostgreSQL server among many, each for one
// transaction at a time. It is reached by a Unix socket.
type PgBouncer struct {
	dir     string
	process *process
}

// StartPgBouncer starts one before the server, with the settings such as
// "default_pool_size = 2". Whoever connects is the superuser.
func StartPgBouncer(p *PostgreSQL, settings ...string) (*PgBouncer, error) {
	dir, err := folder()
	if err != nil {
		return nil, err
	}
	b := &PgBouncer{dir: dir}
	if err := b.start(p, settings); err != nil {
		return nil, errors.Join(fmt.Errorf("start PgBouncer: %w", err), b.Stop())
	}
	return b, nil
}

func (b *PgBouncer) start(p *PostgreSQL, settings []string) error {
	lines := append([]string{
		"[databases]",
		"* = host=" + p.dir + " port=" + p.port + " user=tokend",
		"[pgbouncer]",
		"pool_mode = transaction",
		"auth_type = any",
		"unix_socket_dir = " + b.dir,
		"listen_port = 6432", // which is only a part of the socket's name
	}, settings...)
	if err := writeFile(b.conf(), []byte(strings.Join(lines, "\n")+"\n")); err != nil {
		return err
	}
	return b.Serve()
}

// Lead has those who ask for the database get the other one, of that server, from now on.
func (b *PgBouncer) Lead(database string, p *PostgreSQL, other string) error {
	text, err := os.ReadFile(b.conf())
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, database+" = ") { // where it led before
			lines = append(lines, line)
		}
	}
	line := fmt.Sprintf("%s = host=%s port=%s user=tokend dbname=%s\n", database, p.dir, p.port, other)
	lines = slices.Insert(lines, 1, line) // below [databases]
	if err := writeFile(b.conf(), []byte(strings.Join(lines, ""))); err != nil {
		return err
	}
	return errors.Join(b.Kill(), b.Serve())
}

// Serve starts a killed one again.
func (b *PgBouncer) Serve() error {
	var err error
	b.process, err = serve(command(b.dir, "pgbouncer", b.conf()), filepath.Join(b.dir, "log"), func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, b.URL("postgres"))
		if err != nil {
			return err
		}
		return errors.Join(conn.Ping(ctx), conn.Close(ctx))
	})
	return err
}

func (b *PgBouncer) conf() string { return filepath.Join(b.dir, "pgbouncer.ini") }

// URL is where a database is, through the pooler, for the superuser.
func (b *PgBouncer) URL(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {b.dir}, "port": {"6432"}, "user": {"tokend"}}.Encode()
}

// Socket is the path of the one that it listens on.
func (b *PgBouncer) Socket() string { return filepath.Join(b.dir, ".s.PGSQL.6432") }

// Kill ends it by SIGKILL; Serve starts it again.
func (b *PgBouncer) Kill() error { return b.process.end(syscall.SIGKILL, 0) }

// Stop ends it, if it runs, and removes all of it.
func (b *PgBouncer) Stop() error {
	// By SIGINT it would wait until the clients are done.
	return errors.Join(b.process.end(syscall.SIGTERM, 10*time.Second), os.RemoveAll(b.dir))
}

// Pause lets it run no more, though it still has its connections, until it is killed.
func (b *PgBouncer) Pause() error { return b.process.pause() }
