package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

// What the shell's completion offers comes from the daemon, if it answers soon.
const completionTimeout = time.Second

// completeNothing keeps a shell from offering files for the values of the flags.
func completeNothing(cmd *cobra.Command, flags ...string) {
	for _, flag := range flags {
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions); err != nil {
			panic(err) // the flag is not there: a mistake in this program
		}
	}
}

// completeWords offers these for the value of the flag.
func completeWords(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
}

// completeNoFiles does the same for the arguments of all commands: none takes files.
func completeNoFiles(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		completeNoFiles(sub)
	}
}

func userNames(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var users []web.User
	c, err := newClient(cmd)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		users, err = c.users(ctx, typed)
	}
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, 0, len(users))
	for _, u := range users {
		names = append(names, u.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func completeTokens(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	for _, way := range []string{"user", "all", "secret"} { // IDs go with none of these
		if cmd.Flags().Changed(way) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
	}
	c, err := newClient(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	tokens, err := c.tokens(ctx, "", true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ids := []string{}
	for _, t := range tokens {
		ids = append(ids, fmt.Sprintf("%s\t%s%s", t.ID, t.User, quoted(" ", t.Label)))
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// exactly is cobra.ExactArgs with a sentence that says what is wanted.
func exactly(n int, wanted string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		hint := ""
		if n == 0 {
			hint = fmt.Sprintf(", but was given %.80q", token.RedactName(args[0]))
		}
		switch user := cmd.Flag("user"); {
		case slices.ContainsFunc(args, func(arg string) bool { return token.Redact(arg) != arg }):
			hint = "; a token among the arguments can be seen by others"
		case n == 0 && user != nil && !user.Changed:
			hint += "; for one user write --user NAME"
		case n == 0 && user != nil:
			hint += "; text with blanks in it stands in quotes"
		}
		return fmt.Errorf("%s takes %s%s: %s", cmd.CommandPath(), wanted, hint, cmd.UseLine())
	}
}
