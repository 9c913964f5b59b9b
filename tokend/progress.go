package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is a line on a terminal that tells how far something is. Where there is no
// terminal, it tells nothing.
type progress struct {
	to    io.Writer // nil: no terminal
	of    int64
	done  int64
	shown time.Time
}

func newProgress(w io.Writer, of int64) *progress {
	p := &progress{of: of}
	if isTerminal(w) && os.Getenv("TERM") != "dumb" {
		p.to = w
	}
	return p
}

// step goes on by one.
func (p *progress) step(doing string) {
	const often, wide = 100 * time.Millisecond, 40
	p.done++
	if p.to == nil || p.done%64 != 1 || time.Since(p.shown) < often { // the clock is not asked at every row
		return
	}
	p.shown = time.Now()
	done := min(float64(p.done)/float64(p.of), 1)
	full := int(done * wide)
	fmt.Fprintf(p.to, "\r%-8s [%s%s] %3d%%", doing, strings.Repeat("#", full), strings.Repeat("-", wide-full), int(done*100))
}

// end leaves no trace on the terminal.
func (p *progress) end() {
	if p.to != nil && p.done > 0 {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
