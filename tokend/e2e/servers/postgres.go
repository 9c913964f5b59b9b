package servers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Certified is a database's name, to be made, for which a server with TLS asks who comes for a
// certificate of the authorities in its setting ssl_ca_file.
const Certified = "certified"

// PostgreSQL is a cluster of databases with a server on it, which is reached by a
// Unix socket. Its superuser is tokend.
type PostgreSQL struct {
	dir     string
	port    string
	process *process
	turned  time.Duration // from the machine's clock

	databases atomic.Int64
}

// StartPostgreSQL makes an empty cluster and starts a server on it, with the settings
// such as "max_connections=500".
func StartPostgreSQL(settings ...string) (*PostgreSQL, error) {
	return begin(func(p *PostgreSQL) error {
		p.port = "5432" // which is only a part of the socket's name
		return p.Serve(settings...)
	})
}

// StartPostgreSQLWithTLS starts one that is reached by TLS as well, on a free port.
func StartPostgreSQLWithTLS(settings ...string) (*PostgreSQL, error) {
	settings = append(settings, "listen_addresses=127.0.0.1", "ssl=on")
	return begin(func(p *PostgreSQL) error {
		return onFreePort(func(port string) error {
			p.port = port
			return p.Serve(settings...)
		})
	})
}

func begin(start func(*PostgreSQL) error) (*PostgreSQL, error) {
	dir, err := folder()
	if err != nil {
		return nil, err
	}
	p := &PostgreSQL{dir: dir}
	if err = p.make(); err == nil {
		err = start(p)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), p.Stop())
	}
	return p, nil
}

// make makes the cluster.
func (p *PostgreSQL) make() error {
	if err := run(p.program("initdb", "-D", p.data(), "-U", "tokend", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")); err != nil {
		return err
	}
	rules := "local replication all trust\nlocal all " + WithPassword + " scram-sha-256\nlocal all all trust\n" +
		"hostssl " + Certified + " all 127.0.0.1/32 trust clientcert=verify-ca\nhostssl all all 127.0.0.1/32 trust\n"
	return errors.Join(
		writeFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(rules)),
		writeCertificate(p.Certificate(), p.Key()),
	)
}

// Serve starts a server on the cluster that is there.
func (p *PostgreSQL) Serve(settings ...string) (err error) {
	args := []string{"-D", p.data(), "-k", p.dir, "-p", p.port, "-h", ""}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	cmd := p.program("postgres", args...)
	if p.turned != 0 {
		library, err := filepath.Glob("/usr/lib*/*/faketime/libfaketime.so.1")
		if err != nil || len(library) == 0 {
			return errors.Join(errors.New("there is no libfaketime to turn the server's clock"), err)
		}
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+library[0], fmt.Sprintf("FAKETIME=%+d", int(p.turned.Seconds())), "DONT_FAKE_MONOTONIC=1")
	}
	p.process, err = serve(cmd, filepath.Join(p.dir, "log"), func(ctx context.Context) error {
		return p.Exec(ctx, "SELECT 1")
	})
	return err
}

// Turn ends the server, and starts it again with its clock turned by so many seconds from the machine's.
func (p *PostgreSQL) Turn(by time.Duration, settings ...string) error {
	p.turned = by
	return errors.Join(p.Shut(), p.Serve(settings...))
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
func (p *PostgreSQL) Kill() error {
	err := p.process.pause() // first, so that there are no more children
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	children, listing := p.process.children()
	err = errors.Join(err, listing, p.process.end(syscall.SIGKILL, 0))
	// Paused ones would not see that they are orphans.
	err = errors.Join(err, signal(children, syscall.SIGCONT))
	// As long as one is there, so is their memory, and no server starts beside it.
	for _, pid := range children {
		err = errors.Join(err, gone(pid))
	}
	return err
}

// End has the server admit nobody any more, and end when all who are connected have left.
func (p *PostgreSQL) End() error { return p.process.cmd.Process.Signal(syscall.SIGTERM) }

// Shut ends the server as its administrator would, with everybody's connections.
func (p *PostgreSQL) Shut() error { return p.process.end(syscall.SIGINT, 20*time.Second) }

// Pause stops the server with all its processes: connections to it stay, and new ones are
// made, but nothing answers until Resume.
func (p *PostgreSQL) Pause() error {
	err := p.process.pause() // first, so that there are no more children
	children, listing := p.process.children()
	err = errors.Join(err, listing, signal(children, syscall.SIGSTOP))
	for _, pid := range children {
		err = errors.Join(err, stopped(pid))
	}
	return err
}

// Resume lets them go on.
func (p *PostgreSQL) Resume() error {
	children, err := p.process.children()
	return errors.Join(err, signal(children, syscall.SIGCONT), p.process.resume())
}

// Demote makes a killed primary a standby, which then follows nobody.
func (p *PostgreSQL) Demote() error {
	return errors.Join(writeFile(filepath.Join(p.data(), "standby.signal"), nil), p.Serve())
}

// Log is what the server has written since it was started last.
func (p *PostgreSQL) Log() string { return string(p.process.text()) }

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

// Key is the file with that one's key. Both together are a client's, too.
func (p *PostgreSQL) Key() string { return filepath.Join(p.data(), "server.key") }

// Stop ends the server, if it runs, and removes all of it.
func (p *PostgreSQL) Stop() error {
	children, err := p.process.children()
	// Paused ones would not hear that they should end.
	err = errors.Join(err, signal(children, syscall.SIGCONT), p.process.end(syscall.SIGQUIT, 20*time.Second))
	return errors.Join(err, os.RemoveAll(p.dir))
}

// Dump makes a backup of a database.
func (p *PostgreSQL) Dump(database string) (backup string, err error) {
	backup = filepath.Join(p.dir, "backup")
	return backup, run(p.program("pg_dump", "-h", p.dir, "-p", p.port, "-U", "tokend", "-Fc", "-f", backup, database))
}

// PutBack puts a backup in the place of the database, with everybody connected.
func (p *PostgreSQL) PutBack(database, backup string) error {
	return run(p.program("pg_restore", "-h", p.dir, "-p", p.port, "-U", "tokend", "--clean", "--single-transaction", "-d", database, backup))
}

// Bench runs pgbench with a script in a database, and returns what it prints. All plans
// are generic from the first on, as they would be after a while.
func (p *PostgreSQL) Bench(ctx context.Context, database, script string, args ...string) (string, error) {
	file := filepath.Join(p.dir, "script")
	if err := writeFile(file, []byte(script)); err != nil {
		return "", err
	}
	args = slices.Concat([]string{"-h", p.dir, "-p", p.port, "-U", "tokend", "-n", "-f", file}, args, []string{database})
	made := p.program("pgbench", args...)
	cmd := exec.CommandContext(ctx, made.Path, args...)
	cmd.Dir, cmd.SysProcAttr = made.Dir, made.SysProcAttr
	cmd.Env = slices.Concat(made.Env, []string{"PGOPTIONS=-c plan_cache_mode=force_generic_plan"})
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return string(out), nil
}
