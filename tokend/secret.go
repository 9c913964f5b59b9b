package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"iter"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tokend/tokend/token"
)

// maxLine is how long a line of the standard input may be.
const maxLine = 64 << 10

// readSecret returns the secret of the standard input, as pamhelper reads it: up to
// the first NUL, LF or CR LF, or the end.
func readSecret(cmd *cobra.Command) (string, error) {
	lines, end, err := scanSecrets(cmd, "Token (it is not shown): ")
	if err != nil {
		return "", err
	}
	defer end()
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
		lines, end, err := scanSecrets(cmd, "Tokens, one a line, then Ctrl-D (they are not shown): ")
		if err != nil {
			yield("", err)
			return
		}
		defer end()
		lines.Split(func(data []byte, end bool) (int, []byte, error) { // a NUL ends a line, too, as grep -z writes it
			i := bytes.IndexAny(data, "\x00\n")
			switch {
			case i >= 0:
				return i + 1, bytes.TrimSuffix(data[:i], []byte("\r")), nil
			case end && len(data) > 0:
				return len(data), bytes.TrimSuffix(data, []byte("\r")), nil
			}
			return 0, nil, nil
		})
		some := false
		for lines.Scan() {
			if lines.Text() == "" {
				continue
			}
			if some = true; !yield(lines.Text(), nil) {
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
		return fmt.Errorf("a line of more than %d bytes is no token, and nothing behind it was read", maxLine)
	case err != nil:
		return fmt.Errorf("read the standard input: %w", err)
	}
	return fmt.Errorf("no token came on the standard input: send it as it was shown, such as the %d characters that begin with %s", token.Length, token.Prefix)
}

// scanSecrets reads the standard input. A person at a terminal is asked, and nothing
// that is typed is shown until the end.
func scanSecrets(cmd *cobra.Command, prompt string) (lines *bufio.Scanner, end func(), err error) {
	input, end := cmd.InOrStdin(), func() {}
	if f, ok := input.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if end, err = hideTyping(int(f.Fd()), cmd.ErrOrStderr()); err != nil {
			return nil, nil, fmt.Errorf("read the token from the terminal: %w", err)
		}
		input = &typed{prompt: prompt, stderr: cmd.ErrOrStderr(), terminal: f}
	}
	lines = bufio.NewScanner(input)
	lines.Buffer(nil, maxLine)
	return lines, end, nil
}
