package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tokend/tokend/token"
)

// maxLine is how long a line of the standard input may be.
const maxLine = 64 << 10

// readSecret returns the first secret of the standard input.
func readSecret(cmd *cobra.Command) (string, error) {
	next, stop := iter.Pull2(secrets(cmd))
	defer stop()
	secret, err, _ := next()
	return secret, err
}

// secrets reads the standard input, a secret each line, as they come; there is
// one at least, or an error. A person at a terminal is asked for one, and it
// isn't shown.
func secrets(cmd *cobra.Command) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		input, err := secretInput(cmd)
		if err != nil {
			yield("", fmt.Errorf("read the token from the terminal: %w", err))
			return
		}
		lines := bufio.NewScanner(input)
		lines.Buffer(nil, maxLine)
		some := false
		for lines.Scan() {
			secret, _, _ := strings.Cut(lines.Text(), "\x00") // as pamhelper reads it
			if secret == "" {
				continue
			}
			if some = true; !yield(secret, nil) {
				return
			}
		}
		switch {
		case errors.Is(lines.Err(), bufio.ErrTooLong):
			yield("", fmt.Errorf("a line of more than %d bytes is no token", maxLine))
		case lines.Err() != nil:
			yield("", fmt.Errorf("read the standard input: %w", lines.Err()))
		case !some:
			yield("", fmt.Errorf("no token came on the standard input: send the %d characters that begin with %s", token.Length, token.Prefix))
		}
	}
}

func secretInput(cmd *cobra.Command) (io.Reader, error) {
	f, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return cmd.InOrStdin(), nil
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Token (it is not shown): ")
	line, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	return bytes.NewReader(line), err
}
