package main

import (
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
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List everybody who ever had a token",
		Args:  exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newClient(cmd)
			if err != nil {
				return err
			}
			users := []web.User{}
			if err := c.call(cmd.Context(), http.MethodGet, "/api/v1/users", nil, nil, &users); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), users)
			}
			if len(users) == 0 {
				fmt.Fprintln(cmd.ErrOrStderr(), "No users: one is known from the first token on.")
				return nil
			}
			return printUsers(cmd.OutOrStdout(), users)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
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
