package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list, rotate and revoke tokens", Args: knownCommand, RunE: needsCommand}
	addAdminSocket(cmd)
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenRotate(), newTokenRevoke())
	return cmd
}

// needsCommand is for a command that is only a family of others.
func needsCommand(cmd *cobra.Command, _ []string) error {
	return errors.Join(cmd.Usage(), errSaid)
}

// knownCommand is for the arguments of such a family: what is left is none of it.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	suggestion := ""
	cmd.SuggestionsMinimumDistance = 2 // letters that are wrong
	near := cmd.SuggestionsFor(args[0])
	for _, family := range cmd.Commands() {
		if member, _, err := family.Find(args); err == nil && member != family && family.Name() != "completion" {
			near = append(near, family.Name()+" "+member.Name())
		}
	}
	if len(near) > 0 {
		suggestion = fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
	}
	return fmt.Errorf("%s has no command %q%s: see %s --help", cmd.CommandPath(), args[0], suggestion, cmd.CommandPath())
}

func newTokenCreate() *cobra.Command {
	var user *userFlag
	var ask web.NewToken
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create --user NAME",
		Short: "Create a token and print it, alone, on the standard output",
		Long: `Create a token and print it, alone, on the standard output. It is shown this
once: what is kept of it cannot be turned back into the token.`,
		Example: `  tokend token create --user alice --label laptop --expires 30d
  tokend token create --user alice --expires never --json`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ask.User = user.name
			return createToken(cmd, ask, asJSON)
		},
	}
	user = requireUser(cmd, "iRODS user name of the owner, without #zone")
	flags := cmd.Flags()
	flags.StringVar(&ask.Label, "label", "", "what the token is for, at most 256 characters")
	flags.StringVar(&ask.Expiry, "expires", "", "hours (24), a duration (90m, 36h, 30d, 2w), or never, also written 0 (default: the site's)")
	flags.StringVar(&ask.Use, "use", "irods", "what it opens: irods, or api for the HTTP API and other software, too")
	flags.BoolVar(&asJSON, "json", false, "print the token and what is known of it as JSON")
	completeNothing(cmd, "label", "expires")
	completeWords(cmd, "use", "irods", "api")
	return cmd
}

func createToken(cmd *cobra.Command, ask web.NewToken, asJSON bool) error {
	c, err := newClient(cmd)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("expires") && ask.Expiry == "" {
		return errors.New("--expires is empty: write hours (24), a duration (90m, 36h, 30d, 2w), or never")
	}
	if ask.Use != "irods" && ask.Use != "api" {
		return fmt.Errorf("--use is irods or api, not %.40q", printable(token.Redact(ask.Use)))
	}
	if err := errors.Join(token.CheckUser(ask.User), token.CheckLabel(ask.Label)); err != nil {
		return err
	}
	if leadsNowhere(cmd.OutOrStdout()) {
		return errors.New("the standard output is closed, or /dev/null: the token would be lost")
	}
	var made web.Created
	if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/tokens", nil, ask, &made); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // or nobody would hear that the token is lost
	if err := showSecret(cmd, made, asJSON); err != nil {
		return fmt.Errorf("the token was made but could not be printed, and is lost: end it with tokend token revoke %s (%w)", made.Token.ID, err)
	}
	return nil
}

func showSecret(cmd *cobra.Command, made web.Created, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), made)
	}
	if isTerminal(cmd.ErrOrStderr()) {
		fmt.Fprintf(cmd.ErrOrStderr(), "Token %s for %s, expires %s. It is shown this once:\n", made.Token.ID, made.Token.User, day(made.Token.Expires))
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
	return err
}

func newTokenList() *cobra.Command {
	var user *userFlag
	var asJSON, active bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tokens, newest first",
		Args:  exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := user.check(); err != nil {
				return err
			}
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			tokens, err := c.tokens(cmd.Context(), user.name, active)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), tokens)
			}
			if len(tokens) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "No tokens%s are kept here. Make one with tokend token create --user NAME.\n", quoted(" of ", user.name))
				return nil
			}
			return printTokens(cmd.OutOrStdout(), tokens)
		},
	}
	user = addUser(cmd, "only the tokens of this user")
	cmd.Flags().BoolVar(&active, "active", false, "leave out what is expired or revoked")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// tokens reads all pages.
func (c *client) tokens(ctx context.Context, user string, active bool) ([]web.Token, error) {
	all := []web.Token{}
	query := url.Values{}
	if user != "" {
		query.Set("user", user)
	}
	if active {
		query.Set("state", string(token.Active))
	}
	for {
		var page []web.Token
		if err := c.call(ctx, http.MethodGet, "/api/v1/tokens", query, nil, &page); err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
		query.Set("after", page[len(page)-1].ID)
	}
}

func newTokenRevoke() *cobra.Command {
	var user *userFlag
	var secret, before string
	var all bool
	cmd := &cobra.Command{
		Use:   "revoke ID... | --user NAME --all | --before TIME [--user NAME] | --secret -",
		Short: "Revoke tokens: they open nothing once this has returned",
		Long: `Revoke tokens: by their IDs, all of a user's, those that were created before a
time (of all users, or of one), or those whose secrets were found
(read from the standard input, one a line). They open nothing once this has
returned; at other daemons that do not share a Redis, some milliseconds to a
second later.`,
		Example: `  tokend token revoke 4k2jx01mfp9a
  tokend token revoke --user alice --all
  tokend token revoke --before 2026-03-01
  grep -ohE 'irt_[0-9A-Za-z]{38}' leaked.log | tokend token revoke --secret -`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			signal.Ignore(syscall.SIGPIPE) // all are revoked, whoever reads of it
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			if before != "" && (len(ids) > 0 || all || secret != "") {
				return errors.New("--before does not go with IDs, --all or --secret; give it alone, or with --user NAME")
			}
			if before != "" {
				return c.revokeBefore(cmd, user, before)
			}
			if err := oneWay(ids, user, all, secret); err != nil {
				return err
			}
			switch {
			case all:
				return c.revokeAll(cmd, user.name)
			case secret != "":
				return c.revokeFound(cmd)
			}
			return c.revokeEach(cmd, ids)
		},
	}
	user = addUser(cmd, "with --all: the owner of the tokens")
	cmd.Flags().BoolVar(&all, "all", false, "all tokens of --user")
	cmd.Flags().StringVar(&before, "before", "", "all that were created before this time: 2026-03-01, or 2026-03-01T12:00:00Z")
	completeNothing(cmd, "before")
	cmd.Flags().StringVar(&secret, "secret", "", `"-": read tokens that were found from the standard input, one a line`)
	if err := cmd.RegisterFlagCompletionFunc("secret", cobra.FixedCompletions([]string{"-"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
	cmd.ValidArgsFunction = completeTokens
	return cmd
}

// oneWay refuses to guess which tokens are meant.
func oneWay(ids []string, user *userFlag, all bool, secret string) error {
	if token.Redact(secret) != secret {
		return errors.New("a token does not belong among the arguments, where others can see it: write --secret - and send it on the standard input")
	}
	ways := 0
	for _, chosen := range []bool{len(ids) > 0, user.given || all, secret != ""} {
		if chosen {
			ways++
		}
	}
	var wrong string
	switch {
	case ways == 0:
		wrong = "no token is named"
	case ways > 1 && len(ids) > 0:
		wrong = fmt.Sprintf("%.40q is more than --user, --all and --secret take", printable(token.RedactName(ids[0])))
	case ways > 1:
		wrong = "--secret does not go with --user and --all"
	case secret != "" && secret != "-":
		wrong = "--secret takes only -"
	case all && user.name == "":
		wrong = "--all needs --user NAME"
	case user.given && !all:
		wrong = "--user needs --all"
	default:
		return nil
	}
	return fmt.Errorf("%s; say which tokens in one way: ID..., or --user NAME --all, or --secret - with the secret on the standard input", wrong)
}

// revokeEach goes on when one of them fails: the others are to end as well.
func (c *client) revokeEach(cmd *cobra.Command, ids []string) error {
	var err error
	for _, id := range ids {
		if failure := c.revokeOne(cmd, id); failure != nil {
			complain(cmd.ErrOrStderr(), failure)
			err = errSaid
		}
	}
	return err
}

func (c *client) revokeOne(cmd *cobra.Command, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	var ended web.EndedToken
	if err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil, &ended); err != nil {
		return fmt.Errorf("%s: %w", printable(token.RedactName(id)), err)
	}
	reportRevoked(cmd, ended)
	return nil
}

// checkID refuses what would not reach the daemon as an ID.
func checkID(id string) error {
	if strings.Trim(id, ".") == "" {
		return fmt.Errorf("%q is no ID; tokend token list shows the IDs", id)
	}
	if _, err := token.Parse(id); err == nil {
		return errors.New("a token itself was given where its ID belongs; revoke it with tokend token revoke --secret - and the token on the standard input")
	}
	return nil
}

// revokeBefore goes on until none is left that was created before.
func (c *client) revokeBefore(cmd *cobra.Command, user *userFlag, before string) error {
	if err := user.check(); err != nil {
		return err
	}
	query := url.Values{}
	if err := setTime(query, "before", before); err != nil {
		return err
	}
	if user.given {
		query.Set("user", user.name)
	}
	for n := 0; ; {
		var ended []web.EndedToken
		if err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/tokens", query, nil, &ended); err != nil {
			return err
		}
		for _, t := range ended {
			reportRevoked(cmd, t)
		}
		if n += len(ended); len(ended) > 0 {
			continue
		}
		if n == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "No token that was created before that is still good.")
		}
		return nil
	}
}

func (c *client) revokeAll(cmd *cobra.Command, user string) error {
	var ended []web.EndedToken
	err := c.call(cmd.Context(), http.MethodDelete, "/api/v1/tokens", url.Values{"user": {user}}, nil, &ended)
	if err != nil {
		return err
	}
	for _, t := range ended {
		reportRevoked(cmd, t)
	}
	return nil
}

// revokeFound revokes every token that was found, whatever becomes of the others, and
// tells of each at once: what it reads may not end for a long time.
func (c *client) revokeFound(cmd *cobra.Command) error {
	var failed error
	read := 0
	for secret, err := range secrets(cmd) {
		if err != nil {
			return err
		}
		read++
		var ended web.EndedToken
		if err := c.call(cmd.Context(), http.MethodPost, "/api/v1/tokens/found", nil, web.Found{Secret: secret}, &ended); err != nil {
			complain(cmd.ErrOrStderr(), fmt.Errorf("token %d of the standard input: %w", read, err))
			failed = errSaid
			continue
		}
		reportRevoked(cmd, ended)
	}
	return failed
}

// reportRevoked tells of a token that is over, and whether it was before.
func reportRevoked(cmd *cobra.Command, t web.EndedToken) {
	said := "revoked"
	if t.Before && t.Revoked != nil {
		said = "already revoked, " + t.Revoked.Local().Format(second) + ":"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s of %s%s\n", said, t.ID, t.User, quoted(" ", t.Label))
	if t.Scheme != token.Own {
		fmt.Fprintln(cmd.ErrOrStderr(), "tokend: it was imported; if [knox] url leads to a site that has it still, delete it there, too")
	}
}
