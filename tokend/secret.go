package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tokend/tokend/token"
)

// maxSecretLine is how much of the standard input is looked at.
const maxSecretLine = 64 << 10

// readSecret reads one line from the standard input, as pamhelper does. A person
// at a terminal is asked for it, and it isn't shown.
func readSecret(cmd *cobra.Command) (string, error) {
	line, err := readLine(cmd)
	if err != nil {
		return "", fmt.Errorf("read the token from the standard input: %w", err)
	}
	line, _, _ = strings.Cut(line, "\x00")
	if line == "" {
		return "", fmt.Errorf("no token came on the standard input: send the %d characters that begin with %s", token.Length, token.Prefix)
	}
	return line, nil
}

func readLine(cmd *cobra.Command) (string, error) {
	if f, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(cmd.ErrOrStderr(), "Token (it is not shown): ")
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(line), err
	}
	line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxSecretLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}
