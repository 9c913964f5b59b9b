package main

import (
	"io"
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAfterThePromptNoSignalIsIgnored: what this program would start would ignore it, too.
func TestAfterThePromptNoSignalIsIgnored(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	signals := []os.Signal{unix.SIGTSTP, unix.SIGQUIT, unix.SIGPIPE}
	var before []bool
	for _, s := range signals {
		before = append(before, signal.Ignored(s))
	}
	end, err := hideTyping(int(terminal.Fd()), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	end()
	for i, s := range signals {
		if signal.Ignored(s) != before[i] {
			t.Errorf("%v is ignored for good", s)
		}
	}
}
