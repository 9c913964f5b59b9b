package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// hideTyping has a terminal show nothing of what is typed, until its end or a signal
// that ends the program. What was pasted beyond what was read is dropped at the end: a
// shell would take it for commands. Ctrl-Z and Ctrl-\ do nothing meanwhile.
func hideTyping(fd int, stderr io.Writer) (end func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	show := func() {
		if inForeground(fd) { // else it is another's, who would be disturbed
			_ = unix.IoctlSetTermios(fd, unix.TCSETSF, before) // a terminal that is gone shows nothing
		}
	}
	signal.Ignore(unix.SIGTSTP, unix.SIGQUIT)
	stop := atSignal(func() {
		show()
		fmt.Fprintln(stderr) // behind the prompt
	})
	return func() {
		stop()
		signal.Reset(unix.SIGTSTP, unix.SIGQUIT)
		show()
	}, unix.IoctlSetTermios(fd, unix.TCSETS, &hidden)
}

// atSignal does what is to be done before a signal ends the program, until stopped.
func atSignal(do func()) (stop func()) {
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	go func() {
		s, came := <-signals
		if !came {
			return
		}
		do()
		signal.Reset(s)
		_ = unix.Kill(os.Getpid(), s.(unix.Signal)) // it is of the system's, and ends the program
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

func inForeground(terminal int) bool {
	group, err := unix.IoctlGetInt(terminal, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// typed prompts and reads a terminal that hands over a line at a time, up to the first
// ^D, also behind a line that was not ended: what is pasted has often no line's end.
type typed struct {
	prompt   string // until the first line
	stderr   io.Writer
	terminal *os.File
	line     [4096]byte // as long as a terminal's line can be
	rest     []byte     // of the line
	ended    bool
}

func (t *typed) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		if t.ended {
			return 0, io.EOF
		}
		fmt.Fprint(t.stderr, t.prompt)
		n, err := t.terminal.Read(t.line[:])
		if t.prompt != "" {
			fmt.Fprintln(t.stderr)
			t.prompt = ""
		}
		if err != nil {
			return 0, err
		}
		t.rest, t.ended = t.line[:n], t.line[n-1] != '\n'
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}
