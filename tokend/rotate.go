package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

func newTokenRotate() *cobra.Command {
	var ask web.Rotation
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate ID",
		Short: "Make a token in the place of another, and print it, alone, on the standard output",
		Long: `Make a token in the place of another: of the same owner, label and use, and with as
long a life from now on. It is printed, alone, on the standard output, this once. The
old one is revoked at once, or stays good for the overlap.`,
		Example: `  tokend token rotate 4k2jx01mfp9a --overlap 24h`,
		Args:    exactly(1, "one ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			if err := checkID(ids[0]); err != nil {
				return err
			}
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			if leadsNowhere(cmd.OutOrStdout()) {
				return errors.New("the standard output is closed, or /dev/null: the token would be lost")
			}
			var made web.Rotated
			path := "/api/v1/tokens/" + url.PathEscape(ids[0]) + "/rotate"
			if err := c.call(cmd.Context(), http.MethodPost, path, nil, ask, &made); err != nil {
				return fmt.Errorf("%s: %w", printable(token.RedactName(ids[0])), err)
			}
			signal.Ignore(syscall.SIGPIPE) // or nobody would hear that the token is lost
			if isTerminal(cmd.ErrOrStderr()) && !asJSON {
				fmt.Fprintf(cmd.ErrOrStderr(), "The old token %s %s.\n", made.Old.ID, oldEnds(made.Old))
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), made)
			} else {
				err = showSecret(cmd, made.Created, false)
			}
			if err != nil {
				return fmt.Errorf("the token was made but could not be printed, and is lost: end it with tokend token revoke %s (%w)", made.Token.ID, err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&ask.Overlap, "overlap", "", "how long the old one stays good: hours, or a duration of at most 7d (default: it is revoked at once)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print both tokens and what is known of them as JSON")
	completeNothing(cmd, "overlap")
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeTokens(cmd, args, typed)
	}
	return cmd
}

// oldEnds is what became of a token that was rotated.
func oldEnds(t web.Token) string {
	if t.Revoked != nil {
		return "is revoked"
	}
	return "is good until " + day(t.Expires)
}
