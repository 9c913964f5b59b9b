package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

func newAudit() *cobra.Command {
	var user *userFlag
	var id, action, since, until string
	var limit int
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show who changed what, newest first",
		Example: `  tokend audit --user alice --limit 20
  tokend audit --action token.revoke --since 2026-03-01
  tokend audit --all --json > trail.json`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := user.check(); err != nil {
				return err
			}
			switch {
			case all && cmd.Flags().Changed("limit"):
				return errors.New("--limit and --all exclude each other: give one of them")
			case all:
				limit = math.MaxInt
			case limit < 1:
				return errors.New("--limit is a number from 1 on; --all shows every entry")
			}
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{"user": user.name, "token": id, "action": action} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if err := errors.Join(setTime(query, "since", since), setTime(query, "until", until)); err != nil {
				return err
			}
			events, older, err := c.events(cmd.Context(), query, limit)
			if err != nil {
				return err
			}
			return showEvents(cmd, user.name, events, older, asJSON)
		},
	}
	addAdminSocket(cmd)
	user = addUser(cmd, "only what concerns this user")
	flags := cmd.Flags()
	flags.StringVar(&id, "token", "", "only what concerns the token with this ID")
	flags.StringVar(&action, "action", "", "only what was done so, such as token.revoke")
	flags.StringVar(&since, "since", "", "only from this time on: 2026-03-01, or 2026-03-01T12:00:00Z")
	flags.StringVar(&until, "until", "", "only before this time")
	flags.IntVar(&limit, "limit", 100, "how many entries at most")
	flags.BoolVar(&all, "all", false, "every entry, back to the first")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	completeNothing(cmd, "token", "since", "until", "limit")
	completeWords(cmd, "action", actions()...)
	return cmd
}

// actions is what can be told.
func actions() (all []string) {
	for _, a := range token.Actions {
		all = append(all, string(a))
	}
	return all
}

// setTime reads a day, or a time, as a parameter of a query.
func setTime(query url.Values, name, text string) error {
	if text == "" {
		return nil
	}
	at, err := readTime(text)
	if err != nil {
		return fmt.Errorf("--%s: %w", name, err)
	}
	query.Set(name, at.Format(time.RFC3339Nano))
	return nil
}

// readTime reads a time, or a day of this machine's time zone.
func readTime(text string) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	at, err := time.ParseInLocation(time.DateOnly, text, time.Local)
	if err != nil {
		return at, fmt.Errorf("%.40q is no time: write a day, 2026-03-01, or a time, 2026-03-01T12:00:00Z", printable(token.Redact(text)))
	}
	return at, nil
}

// maxEvents is how many the daemon returns at once.
const maxEvents = 1000

// events reads the newest entries, page by page, up to the limit. Older says
// whether there are more.
func (c *client) events(ctx context.Context, query url.Values, limit int) (events []web.Event, older bool, err error) {
	events = []web.Event{}
	for len(events) <= limit {
		// One more than is wanted, if it fits, tells of older ones.
		ask := min(limit-len(events), maxEvents-1) + 1
		query.Set("limit", strconv.Itoa(ask))
		var page []web.Event
		if err := c.call(ctx, http.MethodGet, "/api/v1/audit", query, nil, &page); err != nil {
			return nil, false, err
		}
		events = append(events, page...)
		if len(page) < ask {
			return events, false, nil
		}
		query.Set("before", strconv.FormatInt(page[len(page)-1].Number, 10))
	}
	return events[:limit], true, nil
}

func showEvents(cmd *cobra.Command, user string, events []web.Event, older, asJSON bool) error {
	var err error
	switch {
	case asJSON:
		err = printJSON(cmd.OutOrStdout(), events)
	case len(events) == 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "No entries%s.\n", quoted(" about ", user))
	default:
		err = printEvents(cmd.OutOrStdout(), events)
	}
	if err == nil && older {
		fmt.Fprintln(cmd.ErrOrStderr(), "There are older entries: --limit N shows more, --all shows them all.")
	}
	return err
}
