package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tokend/tokend/token"
)

// userFlag is the flag --user. Given and empty is not the same as not given, which
// is about all users.
type userFlag struct {
	name  string
	given bool
}

// addUser gives the command the flag, with completion.
func addUser(cmd *cobra.Command, usage string) *userFlag {
	f := &userFlag{}
	cmd.Flags().Var(f, "user", usage)
	if err := cmd.RegisterFlagCompletionFunc("user", userNames); err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
	return f
}

// requireUser is addUser for a command that is nothing without a user.
func requireUser(cmd *cobra.Command, usage string) *userFlag {
	f := addUser(cmd, usage)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if f.given {
			return nil
		}
		return fmt.Errorf("%s needs --user NAME: see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return f
}

// String is the name, or nothing.
func (f *userFlag) String() string { return f.name }

// Type is how --help names the value.
func (f *userFlag) Type() string { return "NAME" }

// Set takes the name.
func (f *userFlag) Set(name string) error {
	f.name, f.given = name, true
	return nil
}

// check refuses a name that nobody can have. Where the flag was not given, it is
// about all.
func (f *userFlag) check() error {
	if !f.given {
		return nil
	}
	return token.CheckUser(f.name)
}
