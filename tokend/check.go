package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tokend/config"
	"tokend/pamhelper/wire"
)

// checkTimeout is how long pamhelper waits, too.
const checkTimeout = 2700 * time.Millisecond

func newCheck() *cobra.Command {
	var user, socket string
	cmd := &cobra.Command{
		Use:   "check --user NAME",
		Short: "Ask whether a token, read from the standard input, opens iRODS for a user",
		Long: `Read a token from the standard input and ask the daemon as pamhelper would, over
its auth socket. Prints "yes", or "no" and the reason; exits with 0 or 1.`,
		Example: `  tokend token create --user alice | tokend check --user alice`,
		Args:    exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := readSecret(cmd)
			if err != nil {
				return err
			}
			request := wire.Request{Login: []byte(user), Secret: []byte(secret), Service: []byte("check")}
			var reply wire.Reply
			if failure := wire.Ask(socket, &request, &reply, wire.Now()+checkTimeout.Nanoseconds()); failure != wire.Answered {
				fmt.Fprintln(cmd.OutOrStdout(), "no: unavailable")
				return fmt.Errorf("ask the daemon at %s: %w", socket, failure)
			}
			if !reply.OK() {
				fmt.Fprintf(cmd.OutOrStdout(), "no: %s\n", reply.Reason())
				return errSaid
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "yes")
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "iRODS user name that would log in")
	cmd.Flags().StringVar(&socket, "socket", config.Default().Auth.Socket, "the daemon's auth socket")
	addAdminSocket(cmd)
	requireUser(cmd)
	completeUser(cmd)
	return cmd
}
