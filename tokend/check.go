package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tokend/config"
	"tokend/pamhelper/wire"
	"tokend/tokend/token"
)

// checkTimeout is how long pamhelper waits, too.
const checkTimeout = 2500 * time.Millisecond

func newCheck() *cobra.Command {
	var user *userFlag
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check --user NAME",
		Short: "Ask whether a token, read from the standard input, opens iRODS for a user",
		Long: `Read a token from the standard input and ask the daemon as pamhelper would, over
its auth socket, whose peer you must be. Prints "yes", or "no" and the reason; exits
with 0 or 1.`,
		Example: `  tokend token create --user alice --expires 1m | tokend check --user alice`,
		Args:    exactly(0, "no argument (the token comes on the standard input)"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if socket == "" {
				return errors.New("--socket is empty: name the daemon's auth socket")
			}
			secret, err := readSecret(cmd)
			if err != nil {
				return err
			}
			answer, err := ask(socket, user.name, secret)
			show := printAnswer
			if asJSON {
				if err != nil && !errors.Is(err, errSaid) {
					answer.Detail = err.Error()
				}
				show = func(w io.Writer, a answered) error { return printJSON(w, a) }
			}
			return errors.Join(show(cmd.OutOrStdout(), answer), err)
		},
	}
	user = requireUser(cmd, "iRODS user name that would log in")
	cmd.Flags().StringVar(&socket, "socket", config.Default().Auth.Socket, "the daemon's auth socket")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addAdminSocket(cmd)
	cmd.Flag("admin-socket").Usage = "the daemon's admin socket, which completes names"
	return cmd
}

// answered is what came of a check, in the words of the daemon's log.
type answered struct {
	Outcome string `json:"outcome"`          // yes or no
	Reason  string `json:"reason"`           // ok, or why not
	Detail  string `json:"detail,omitempty"` // more of why not
}

// ask returns the daemon's answer. The error says why there is none, or is
// errSaid for a no.
func ask(socket, user, secret string) (answered, error) {
	request := wire.Request{Login: []byte(user), Secret: []byte(secret), Service: []byte("check")}
	var reply wire.Reply
	if len(secret) > wire.MaxField { // the helper refuses it by itself, too
		return answered{Outcome: "no", Reason: "malformed", Detail: fmt.Sprintf("it is longer than %d bytes", wire.MaxField)}, errSaid
	}
	failure := wire.Ask(socket, &request, &reply, wire.Now()+checkTimeout.Nanoseconds())
	switch {
	case failure == wire.TimedOut:
		return answered{Outcome: "no", Reason: "unavailable"}, fmt.Errorf("ask the daemon at %s: %w; it hangs, or this is not its auth socket", socket, failure)
	case failure != wire.Answered:
		return answered{Outcome: "no", Reason: "unavailable"}, fmt.Errorf("ask the daemon at %s: %w", socket, failure)
	case !reply.OK():
		no := answered{Outcome: "no", Reason: printable(string(reply.Reason()))}
		if no.Reason == "malformed" || no.Reason == "wrong-user" {
			no.Detail = whyNot(no.Reason, user, secret)
		}
		return no, errSaid
	}
	return answered{Outcome: "yes", Reason: "ok"}, nil
}

// whyNot says what is wrong with the secret or the name, where that can be seen.
func whyNot(reason, user, secret string) string {
	var err error
	if reason == "malformed" {
		if _, err = token.Parse(secret); len(secret) > token.Length && !strings.HasPrefix(secret, token.Prefix) { // it may be a site's
			_, err = token.ParseKnox(secret, "")
		}
	}
	if err == nil || token.RedactName(user) != user { // the two may have been swapped
		err = cmp.Or(token.CheckUser(user), err)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func printAnswer(w io.Writer, a answered) error {
	said := a.Outcome
	if a.Outcome != "yes" {
		said += ": " + a.Reason
	}
	if a.Detail != "" {
		said += " (" + a.Detail + ")"
	}
	_, err := fmt.Fprintln(w, said)
	return err
}
