package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tokend/config"
	"tokend/tokend/socket"
	"tokend/tokend/token"
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
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP) // from here on it can't end the daemon
			defer signal.Stop(hangup)
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			read, err := loadSoon(ctx, path, startTimeout)
			if err == nil && checkOnly {
				return reportValid(cmd, path, read)
			}
			if err == nil {
				err = serve(ctx, hangup, path, read, cmd.ErrOrStderr())
			}
			if errors.Is(err, context.Canceled) && ctx.Err() != nil && !checkOnly {
				return nil // it was ended before it served
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", configPath, "the configuration; a file that is not there is an empty one")
	cmd.Flags().BoolVar(&checkOnly, "check-config", false, "say what is wrong with the configuration, and the files that it names, and do nothing else")
	return cmd
}

// reportValid says what a valid configuration may still surprise with.
func reportValid(cmd *cobra.Command, path string, read loaded) error {
	cfg := read.cfg
	for section, names := range map[string][]string{"auth": cfg.Auth.Peers, "admin": cfg.Admin.Peers} {
		peers, leftOut := socket.ResolvePeers(names)
		if len(leftOut) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "[%s] peers are left out: %s\n", section, token.Redact(strings.Join(leftOut, ", ")))
		}
		if peers.Only() {
			fmt.Fprintf(cmd.ErrOrStderr(), "[%s] %s\n", section, nobodyMayAsk)
		}
	}
	for _, weak := range weakPlaces(path) {
		fmt.Fprintf(cmd.ErrOrStderr(), "other users can change or replace it: %s\n", printable(token.Redact(weak)))
	}
	for _, warning := range exposed(cfg) {
		fmt.Fprintln(cmd.ErrOrStderr(), warning)
	}
	for _, merged := range names(cfg.Names).Merged() {
		fmt.Fprintln(cmd.ErrOrStderr(), "[names]", printable(merged))
	}
	unread, err := checkFiles(cfg)
	for _, warning := range unread {
		fmt.Fprintln(cmd.ErrOrStderr(), printable(token.Redact(warning)))
	}
	if err != nil {
		return err
	}
	verdict := "is valid"
	if read.origin == config.Absent {
		verdict = "is not there, which is valid: every key has its default"
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(token.Redact(path)), verdict)
	return err
}
