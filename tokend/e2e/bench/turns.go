package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// way is one of several to do the same.
type way struct {
	name    string
	measure func(context.Context) (float64, error)
}

// turns measures all ways one after the other, and again, so that what else the machine
// does meets all of them alike. It returns the median of each.
func turns(ctx context.Context, rounds int, what string, ways []way) ([]float64, error) {
	got := make([][]float64, len(ways))
	for round := range rounds {
		for i, w := range ways {
			progress("%s: round %d of %d: %s", what, round+1, rounds, w.name)
			value, err := w.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			got[i] = append(got[i], value)
		}
	}
	medians := make([]float64, len(ways))
	for i, values := range got {
		medians[i] = median(values)
	}
	return medians, nil
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

// progress tells on a terminal what is being done.
func progress(format string, args ...any) {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
	}
}

// newTable returns a table that is printed by Flush.
func newTable(head string, args ...any) *tabwriter.Writer {
	progress("")
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, head+"\n", args...)
	return w
}

// series is how long each of many runs took.
type series []time.Duration

func (s series) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(q*float64(len(sorted)-1))]
}

func (s series) String() string {
	return fmt.Sprintf("%s\t%s\t%s", micro(s.quantile(0.5)), micro(s.quantile(0.9)), micro(s.quantile(0.99)))
}

func micro(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }
