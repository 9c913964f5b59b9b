package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func newCache() *cobra.Command {
	cmd := &cobra.Command{Use: "cache", Short: "Look after the Redis that daemons share", Args: knownCommand, RunE: needsCommand}
	addAdminSocket(cmd)
	cmd.AddCommand(&cobra.Command{
		Use:   "rotate-key",
		Short: "Replace the key that seals what is in Redis",
		Long: `Replace the key that seals what is in Redis. Nobody is logged out: what the key
before it has sealed is believed until it is too old ([cache] ttl and stale), and
then the store is asked. Do it while /readyz of all daemons says ready: one that does
not hear of changes learns no new key, and cannot open what the others renew. If a key has
leaked, rotate twice: the second time, the leaked one is thrown away.`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/cache/rotate-key", nil, nil, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "The cache is sealed with a new key.")
			return err
		},
	})
	return cmd
}
