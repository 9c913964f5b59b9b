package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// hideTyping has a terminal show nothing of what is typed, until its end or a signal
// that ends the program. What was pasted beyond what was read is dropped at the end: a
// shell would take it for commands. Ctrl-Z and Ctrl-\ do nothing from then on, nor does it
// matter that nobody reads the prompt: a signal may come later than what was typed behind it.
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
	unheard := make(chan os.Signal, 1) // signal.Reset wouldn't undo signal.Ignore
	for _, s := range []os.Signal{unix.SIGTSTP, unix.SIGQUIT, unix.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(unheard, s)
		}
	}
	undo := atSignal(func() {
		show()
		lastWords(stderr, "\n") // behind the prompt
	})
	return func() {
		undo()
		show()
	}, unix.IoctlSetTermios(fd, unix.TCSETS, &hidden)
}

// ends are the signals that end a command.
var ends = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP}

// endings is what is to be done before a signal ends the program.
var endings struct {
	sync.Mutex
	all     []func() // in their order
	signals chan os.Signal
}

// atSignal does something before a signal ends the program, and lets it end the
// program, until it is undone; what was begun last is undone first.
func atSignal(do func()) (undo func()) {
	endings.Lock()
	defer endings.Unlock()
	if endings.all = append(endings.all, do); len(endings.all) == 1 {
		endings.signals = make(chan os.Signal, 1)
		go end(endings.signals)
	}
	for _, s := range ends {
		if !signal.Ignored(s) {
			signal.Notify(endings.signals, s)
		}
	}
	return func() {
		endings.Lock()
		defer endings.Unlock()
		if endings.all = endings.all[:len(endings.all)-1]; len(endings.all) == 0 {
			signal.Stop(endings.signals)
			close(endings.signals)
		}
	}
}

func end(signals <-chan os.Signal) {
	s, came := <-signals
	if !came {
		return
	}
	endings.Lock() // for good
	for _, do := range endings.all {
		do()
	}
	signal.Reset(s)
	_ = unix.Kill(os.Getpid(), s.(unix.Signal)) // it is of the system's, and ends the program
}

// lastWords are for atSignal. Where nobody reads them, a second signal ends the program.
func lastWords(stderr io.Writer, text string) {
	signal.Reset(ends...)
	_, _ = io.WriteString(stderr, text)
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
