package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
)

const (
	// nodes is how many daemons there are at most.
	nodes = 3
	// warm is of how many tokens the records are in Redis.
	warm = 10_000
	// few is how many tokens the small database has.
	few = 10_000
)

// fleet is daemons over one PostgreSQL and one Redis.
type fleet struct {
	*bench
	postgres     *servers.PostgreSQL
	redis        *servers.Redis
	large, small size
	sites        []*rig.Site
	daemons      []*rig.Daemon
	warm         []string // logins
}

// size is a database with so many tokens.
type size struct {
	database string
	tokens   int
}

// fleet measures what several daemons share.
func (b *bench) fleet(ctx context.Context, only string) (err error) {
	f := &fleet{bench: b}
	defer func() { err = errors.Join(err, f.stop()) }()
	if err := f.start(ctx, only); err != nil {
		return err
	}
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{"redis", f.againstRedis}, {"fleet", f.byNodes}, {"store", f.againstPostgreSQL}, {"size", f.bySize},
	} {
		if only == "" || only == part.name {
			if err := part.measure(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// startServers starts both. What the disk costs is not what is compared.
func (f *fleet) startServers() (err error) {
	f.postgres, err = servers.StartPostgreSQL("max_connections=500", "fsync=off", "autovacuum=off", "max_wal_size=8GB", "shared_buffers="+f.buffers())
	if err == nil {
		f.redis, err = servers.StartRedis()
	}
	return err
}

func (f *fleet) start(ctx context.Context, only string) (err error) {
	if err := f.startServers(); err != nil { //nolint:contextcheck // they wait 30 s at most
		return err
	}
	f.large.tokens, f.small.tokens = f.tokens, few
	for _, s := range []*size{&f.large, &f.small} {
		if s.database, err = f.postgres.NewDatabase(ctx, "template0"); err != nil {
			return err
		}
		if err = fill(ctx, f.postgres.URL(s.database), s.tokens); err == nil {
			err = f.layOut(ctx, *s)
		}
		if err != nil {
			return fmt.Errorf("fill PostgreSQL: %w", err)
		}
	}
	for n := range min(warm, f.tokens) {
		f.warm = append(f.warm, login(n))
	}
	if only == "size" {
		return nil
	}
	for range nodes {
		site, err := rig.NewSite()
		if err != nil {
			return err
		}
		f.sites = append(f.sites, site)
		store := fmt.Sprintf("url = %q\nconnections = %d\n[cache]\nurl = \"redis://%s\"\nttl = \"1h\"", f.postgres.URL(f.large.database), 2*logins, f.redis.Addr())
		if err := quiet(site, fmt.Sprintf("url = %q", "sqlite:"+site.Path("state/tokend.db")), store); err != nil {
			return err
		}
		if err := f.startAt(ctx, site); err != nil {
			return err
		}
	}
	return nil
}

// startAt starts the daemon that was built once, at another site. Its log goes to a pipe
// that is read, as it does where systemd's journal has it.
func (f *fleet) startAt(ctx context.Context, site *rig.Site) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	go func() {
		_, _ = io.Copy(io.Discard, read) // until the daemon ends
		_ = read.Close()                 // it was only read
	}()
	cmd := exec.Command(f.site.Tokend(), "serve", "--config", site.Config())
	cmd.Stderr = write
	daemon, err := site.Launch(cmd)
	if err != nil {
		return err
	}
	f.daemons = append(f.daemons, daemon)
	return daemon.Wait(ctx)
}

// sockets are those of the first daemons, so many.
func (f *fleet) sockets(n int) (paths []string) {
	for _, site := range f.sites[:n] {
		paths = append(paths, site.AuthSocket())
	}
	return paths
}

// buffers has room for all tokens and their indexes, some 700 bytes each.
func (f *fleet) buffers() string { return fmt.Sprintf("%dMB", 256+f.tokens/1000) }

func (f *fleet) stop() error {
	var errs []error
	for _, site := range f.sites {
		errs = append(errs, site.Close())
	}
	if f.redis != nil {
		errs = append(errs, f.redis.Stop())
	}
	if f.postgres != nil {
		errs = append(errs, f.postgres.Stop())
	}
	return errors.Join(errs...)
}

// byNodes measures one, two and three daemons.
func (f *fleet) byNodes(ctx context.Context) error {
	w := newTable("\nchecks of so many daemons over one Redis, their records warm (%d rounds of %s, in turns)\tat once\tper second\tof one daemon", f.rounds, f.span)
	for _, atOnce := range []int{8, 64} {
		var ways []way
		for n := 1; n <= nodes; n++ {
			name := fmt.Sprintf("%d daemons", n)
			if n == 1 {
				name = "1 daemon"
			}
			ways = append(ways, f.checks(name, f.sockets(n), atOnce))
		}
		if err := f.heat(ctx); err != nil {
			return err
		}
		got, err := turns(ctx, f.rounds, fmt.Sprintf("fleet, %d at once", atOnce), ways)
		if err != nil {
			return err
		}
		for i, way := range ways {
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%.2f\n", way.name, atOnce, got[i], got[i]/got[0])
		}
	}
	return w.Flush()
}
