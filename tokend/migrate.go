package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"tokend/config"
	"tokend/tokend/store"
	"tokend/tokend/store/postgres"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Move everything to another store", Args: knownCommand, RunE: needsCommand}
	cmd.AddCommand(newSQLiteToPostgres())
	return cmd
}

// move is a migration as it was asked for.
type move struct {
	config, from   string
	dryRun, asJSON bool
}

func newSQLiteToPostgres() *cobra.Command {
	var m move
	cmd := &cobra.Command{
		Use:   "sqlite-to-postgres",
		Short: "Move everything from an SQLite database to PostgreSQL",
		Long: `Move users, tokens and the audit trail from an SQLite database to the PostgreSQL
database that [store] of the new configuration names, which must be empty. The daemon
must be stopped: what it changed meanwhile would be lost.

It is all or nothing: everything is copied in one transaction, read back and compared
before the commit. What is interrupted, or refused, leaves nothing behind but empty
tables; only where PostgreSQL does not answer to the commit, a --dry-run tells: it is
refused if all was moved. Every token stays what it is, active, expired or revoked, and the trail keeps
its numbers and times; of the migration itself it has no entry. The SQLite database is
only read, and stays as it is: a daemon that is started over it again lets in what was
revoked since.

--dry-run reads and checks everything, looks whether the PostgreSQL database is empty,
and changes nothing.`,
		Example: `  tokend migrate sqlite-to-postgres --config new.toml --dry-run
  tokend migrate sqlite-to-postgres --config new.toml --from /var/lib/tokend/tokend.db`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return m.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&m.config, "config", configPath, "the new configuration, whose [store] url is that of the PostgreSQL database")
	flags.StringVar(&m.from, "from", strings.TrimPrefix(config.Default().Store.URL, sqliteScheme), "the SQLite database")
	flags.BoolVar(&m.dryRun, "dry-run", false, "say whether it could be done, and change nothing")
	flags.BoolVar(&m.asJSON, "json", false, "print JSON")
	return cmd
}

// moved is what was moved, or would be.
type moved struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Users  int64  `json:"users"`
	Tokens int64  `json:"tokens"`
	Events int64  `json:"events"`
	SHA256 string `json:"sha256"` // of all of it
	DryRun bool   `json:"dry_run"`
}

func (m move) run(cmd *cobra.Command) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	done, err := m.do(ctx, cmd)
	switch {
	case errors.Is(err, token.ErrUnsure):
		return fmt.Errorf("%w; once PostgreSQL answers again, the same with --dry-run tells: it is refused if all was moved, and nothing was if not", err)
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted: nothing was moved")
	case err != nil:
		return err
	}
	return done.print(cmd, m.asJSON)
}

// interruptible ends with the first signal that ends a command; a second one ends the
// program. What the user has ignored, as by nohup, stays ignored.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	var heard []os.Signal
	for _, s := range ends {
		if !signal.Ignored(s) {
			heard = append(heard, s)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, heard...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func (m move) do(ctx context.Context, cmd *cobra.Command) (done *moved, err error) {
	read, err := loadSoon(ctx, m.config, startTimeout)
	if err != nil {
		return nil, err
	}
	if !config.IsPostgreSQL(read.cfg.Store.URL) {
		missing := ""
		if read.origin == config.Absent {
			missing = ", which is not there,"
		}
		return nil, fmt.Errorf("[store] url in %s%s is no PostgreSQL database: write postgres://user@host/database there, or name the new configuration with --config", m.config, missing)
	}
	target := postgreSQL(read.cfg.Store, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), nil)
	target.Logger, target.Connections = nil, 0 // that the tables are made says nothing here; and few are enough
	source, err := sqlite.OpenSource(ctx, m.from)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }() //nolint:contextcheck // ctx may have ended
	to, err := postgres.Vacant(ctx, target)                   // before anything is made in it
	if err != nil {
		return nil, err
	}
	rows, err := source.Rows(ctx)
	if err != nil {
		return nil, err
	}
	var tally *store.Tally
	if m.dryRun {
		bar := newProgress(cmd.ErrOrStderr(), rows)
		defer bar.end()
		tally, err = postgres.Check(ctx, source, func() { bar.step(string(postgres.Checking)) })
	} else {
		bar := newProgress(cmd.ErrOrStderr(), 2*rows) // there, and back
		defer bar.end()
		tally, err = moveInto(ctx, target, source, func(p postgres.Phase) { bar.step(string(p)) })
	}
	if err != nil {
		return nil, err
	}
	return &moved{From: m.from, To: to, Users: tally.Users, Tokens: tally.Tokens, Events: tally.Events, SHA256: tally.Sum(), DryRun: m.dryRun}, nil
}

func moveInto(ctx context.Context, target postgres.Config, rows store.Rows, step func(postgres.Phase)) (tally *store.Tally, err error) {
	s, err := postgres.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tally, err = s.Import(ctx, rows, step)
	if err != nil && !errors.Is(err, token.ErrUnsure) {
		err = fmt.Errorf("nothing was moved: %w", err)
	}
	return tally, err
}

func (d *moved) print(cmd *cobra.Command, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), d)
	}
	what := fmt.Sprintf("%s, %s and %s from %s to %s", count(d.Users, "user", "users"), count(d.Tokens, "token", "tokens"),
		count(d.Events, "audit entry", "audit entries"), printable(d.From), printable(d.To))
	text := fmt.Sprintf("moved %s: what arrived was read back and is the same\n"+
		"Start the daemon with the new configuration, and none over the old database, where nothing has changed.\n", what)
	if d.DryRun {
		text = fmt.Sprintf("would move %s; nothing was changed\n", what)
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), text)
	return err
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
