package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tokend/tokend/token"
)

// maxLine is how long a line of the standard input may be.
const maxLine = 64 << 10

// readSecret returns the secret of the standard input, as pamhelper reads it: up to
// the first NUL, LF or CR LF, or the end.
func readSecret(cmd *cobra.Command) (string, error) {
	lines, err := scanSecrets(cmd, 1)
	if err != nil {
		return "", err
	}
	lines.Split(func(data []byte, end bool) (int, []byte, error) {
		switch i := bytes.IndexAny(data, "\x00\n"); {
		case i >= 0 && data[i] == '\n':
			return i + 1, bytes.TrimSuffix(data[:i], []byte("\r")), nil
		case i >= 0:
			return i + 1, data[:i], nil
		case end && len(data) > 0:
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	if lines.Scan() && lines.Text() != "" {
		return lines.Text(), nil
	}
	return "", noSecret(lines)
}

// secrets reads the standard input, a secret each line, as they come; there is
// one at least, or an error.
func secrets(cmd *cobra.Command) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		lines, err := scanSecrets(cmd, math.MaxInt)
		if err != nil {
			yield("", err)
			return
		}
		some := false
		for lines.Scan() {
			secret, _, _ := strings.Cut(lines.Text(), "\x00")
			if secret == "" {
				continue
			}
			if some = true; !yield(secret, nil) {
				return
			}
		}
		if !some || lines.Err() != nil {
			yield("", noSecret(lines))
		}
	}
}

// noSecret is why there is none, or no further one.
func noSecret(lines *bufio.Scanner) error {
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("a line of more than %d bytes is no token", maxLine)
	case err != nil:
		return fmt.Errorf("read the standard input: %w", err)
	}
	return fmt.Errorf("no token came on the standard input: send the %d characters that begin with %s", token.Length, token.Prefix)
}

// scanSecrets reads the standard input. A person at a terminal is asked for as many
// as are wanted.
func scanSecrets(cmd *cobra.Command, wanted int) (*bufio.Scanner, error) {
	input := cmd.InOrStdin()
	if f, ok := input.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		typed, err := typed(f, cmd.ErrOrStderr(), wanted)
		if err != nil {
			return nil, fmt.Errorf("read the token from the terminal: %w", err)
		}
		input = typed
	}
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, maxLine)
	return lines, nil
}

// typed asks at the terminal for secrets, a line each, up to ^D or as many as are
// wanted, and shows nothing of them, also where many lines are pasted at once.
func typed(terminal *os.File, prompts io.Writer, wanted int) (io.Reader, error) {
	prompt := "Token (it is not shown): "
	if wanted > 1 {
		prompt = "Token (it is not shown; Ctrl-D after the last one): "
	}
	fd := int(terminal.Fd())
	before, err := term.MakeRaw(fd) // ^C is a character, too, and leaves no terminal that shows nothing
	if err != nil {
		return nil, err
	}
	defer term.Restore(fd, before) //nolint:errcheck // there is nothing better to do
	asked := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{terminal, prompts}, "")
	lines := new(bytes.Buffer)
	for range wanted {
		line, err := asked.ReadPassword(prompt)
		if errors.Is(err, io.EOF) { // ^C and ^D
			fmt.Fprint(prompts, "\r\n")
			break
		}
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(lines, line)
	}
	return lines, nil
}
