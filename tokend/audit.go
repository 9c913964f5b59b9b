package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tokend/tokend/web"
)

// maxEvents is how many the daemon returns at most.
const maxEvents = 1000

func newAudit() *cobra.Command {
	var user string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, newest first",
		Args:  exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			if limit < 1 || limit > maxEvents {
				return fmt.Errorf("--limit is a number from 1 to %d", maxEvents)
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if user != "" {
				query.Set("user", user)
			}
			events := []web.Event{}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/audit", query, nil, &events); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), events)
			}
			if len(events) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "No entries%s.\n", quoted(" about ", user))
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "TIME\tBY\tWHAT\tUSER\tTOKEN\tDETAIL")
			for _, e := range events {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.At.Local().Format(second), e.Actor, e.Action, printable(e.User), e.Token, printable(e.Detail))
			}
			return w.Flush()
		},
	}
	addAdminSocket(cmd)
	cmd.Flags().StringVar(&user, "user", "", "only what concerns this user")
	cmd.Flags().IntVar(&limit, "limit", 100, fmt.Sprintf("how many entries at most, up to %d", maxEvents))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	completeUser(cmd)
	return cmd
}
