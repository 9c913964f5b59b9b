// Tokend keeps API tokens and says whether one opens iRODS for a user. It is the
// daemon (tokend serve) and the command line that manages it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tokend/tokend/token"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the program, its exit status returned: 0, or 1 for anything that went
// wrong and for a no.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	nameVersion()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := checkFlags(root, args)
	if err == nil {
		err = root.Execute()
	}
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSaid) {
		complain(stderr, err)
	}
	return 1
}

// complain tells of an error, which may quote what was typed.
func complain(stderr io.Writer, err error) {
	fmt.Fprintln(stderr, "tokend:", token.Redact(err.Error()))
}

// errSaid ends a command with 1 when all has been said.
var errSaid = errors.New("")

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "tokend",
		Short: "API tokens as iRODS passwords",
		Long: `tokend keeps API tokens and says whether one opens iRODS for a user.

"tokend serve" is the daemon, to which those that manage and check tokens talk over
its sockets.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.Version = version.Version
	root.SetVersionTemplate("tokend {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 { // the flag was meant for a command
			return knownCommand(cmd, args)
		}
		return fmt.Errorf("%w%s: see %s --help", badValue(err), nearFlag(cmd, err), cmd.CommandPath())
	})
	root.AddCommand(newServe(), newToken(), newUser(), newAudit(), newCache(), newCheck(), newMigrate(), newImport(), newVersion())
	strict(root)
	completeNoFiles(root)
	return root
}

// checkFlags refuses what cobra takes. A flag that was left without its value, as
// by a variable of the shell that is empty, takes the next one for it: --label
// --expires=1h would be a label, and a token without an end. Of a flag that is
// given twice, the first value would be passed over, unless it takes several.
func checkFlags(root *cobra.Command, args []string) error {
	cmd, _, _ := root.Find(args) // what is no command, it says when it is run
	given := map[string]bool{}
	for i := 0; i < len(args) && args[i] != "--"; i++ { // behind it are no flags
		spelled, isFlag := strings.CutPrefix(args[i], "--")
		name, _, hasValue := strings.Cut(spelled, "=")
		flag := cmd.Flag(name)
		if !isFlag || flag == nil || flag.NoOptDefVal != "" {
			continue
		}
		if _, several := flag.Value.(pflag.SliceValue); given[name] && !several {
			return fmt.Errorf("--%s is given twice: one of the two would be passed over", name)
		}
		given[name] = true
		if hasValue {
			continue
		}
		i++
		if i < len(args) && strings.HasPrefix(args[i], "--") {
			return fmt.Errorf("--%s needs a value, and %.40q looks like a flag; if it is meant, write --%[1]s=%.40[2]s", name, args[i])
		}
	}
	return nil
}

// badValue says what a flag wants that is no text.
func badValue(err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	wanted, ok := map[string]string{"int": "a whole number", "bool": "true or false"}[bad.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return fmt.Errorf("--%s wants %s, not %.40q", bad.GetFlag().Name, wanted, bad.GetValue())
}

// nearFlag offers the flags of which the one that isn't there is the beginning, or
// that are the beginning of it.
func nearFlag(cmd *cobra.Command, err error) string {
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return ""
	}
	var near []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := missing.GetSpecifiedName()
		if strings.HasPrefix(f.Name, name) || strings.HasPrefix(name, f.Name) {
			near = append(near, "--"+f.Name)
		}
	})
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
}

// strict makes mistakes of what cobra adds by itself: it takes an unknown topic
// of help, or an unknown shell, for a wish to be helped.
func strict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, topic []string) error {
				family, rest, err := root.Find(topic)
				if err != nil {
					return err
				}
				return knownCommand(family, rest)
			}
		case "completion":
			cmd.Args, cmd.RunE = knownCommand, needsCommand
		}
	}
}
