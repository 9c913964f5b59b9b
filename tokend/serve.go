package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tokend/config"
)

const configPath = "/etc/tokend/tokend.toml"

func newServe() *cobra.Command {
	var path string
	var checkOnly bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: `Run the daemon in the foreground. SIGHUP reloads the configuration and says what
needs a restart; SIGTERM lets the logins under way end and exits with 0. Under
systemd, sockets that were passed are used and the service manager is told.`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			if checkOnly {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", path)
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return serve(ctx, path, cfg, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", configPath, "the configuration; a file that is not there is an empty one")
	cmd.Flags().BoolVar(&checkOnly, "check-config", false, "say what is wrong with the configuration, and do nothing else")
	return cmd
}

// newLogger returns the daemon's log and the level that a reload may change.
func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}
