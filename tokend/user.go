package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

func newUser() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "List, disable and enable users", Args: knownCommand, RunE: needsCommand}
	addAdminSocket(cmd)
	cmd.AddCommand(
		newUserList(),
		newUserChange("disable", "Keep a user's tokens from opening anything", true),
		newUserChange("enable", "Undo disable: the user's tokens are good again", false),
	)
	return cmd
}

func newUserList() *cobra.Command {
	var asJSON bool
	var find string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List everybody who ever had a token",
		Args:  exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			users, err := c.users(cmd.Context(), find)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), users)
			}
			if len(users) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "No users%s: one is known from the first token on.\n", quoted(" with ", find))
				return nil
			}
			return printUsers(cmd.OutOrStdout(), users)
		},
	}
	cmd.Flags().StringVar(&find, "find", "", "only names that have this somewhere, in capitals or not")
	completeNothing(cmd, "find")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// users reads all pages of those whose name has that somewhere.
func (c *client) users(ctx context.Context, find string) ([]web.User, error) {
	all := []web.User{}
	query := url.Values{"find": {find}}
	for {
		var page []web.User
		if err := c.call(ctx, http.MethodGet, "/api/v1/users", query, nil, &page); err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return all, nil
		}
		all = append(all, page...)
		query.Set("after", page[len(page)-1].Name)
	}
}

func newUserChange(verb, short string, disabled bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  exactly(1, "one user name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := token.CheckUser(args[0]); err != nil {
				return err
			}
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			path := "/api/v1/users/" + url.PathEscape(args[0])
			if err := c.call(cmd.Context(), http.MethodPut, path, nil, web.UserState{Disabled: disabled}, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%sd %s\n", verb, args[0])
			return err
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return userNames(cmd, args, typed)
	}
	return cmd
}
