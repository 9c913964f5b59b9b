package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"tokend/pamhelper/wire"
	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

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

// loads asks the daemon as fast as it answers and prints the table.
func loads(ctx context.Context, site *rig.Site, good string, span time.Duration) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "checks over the socket, one connection each (%s each)\tat once\tper second\tmedian\t90 %%\t99 %%\n", span)
	for _, load := range []struct {
		name   string
		yes    bool
		secret func() string
	}{
		{"right token, its record cached", true, func() string { return good }},
		{"unknown token, a look-up in the store each", false, func() string { return token.Mint().Reveal() }},
		{"no token at all", false, func() string { return "password" }},
	} {
		for _, workers := range []int{1, 8, 64} {
			times, err := hammer(ctx, site.AuthSocket(), workers, span, load.secret, load.yes)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\n", load.name, workers, float64(len(times))/span.Seconds(), times)
		}
	}
	return w.Flush()
}

// hammer has so many workers ask for the given time. A wrong answer is an error.
func hammer(ctx context.Context, path string, workers int, span time.Duration, secret func() string, yes bool) (series, error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	times, failures := make([]series, workers), make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for ctx.Err() == nil && failures[i] == nil {
				begun := time.Now()
				failures[i] = ask(path, secret(), yes)
				times[i] = append(times[i], time.Since(begun))
			}
		})
	}
	all.Wait()
	return slices.Concat(times...), errors.Join(failures...)
}

func ask(path, secret string, yes bool) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := wire.Request{Login: []byte("alice"), Secret: []byte(secret)}
	if _, err := request.WriteTo(conn); err != nil {
		return err
	}
	ok, reason, err := wire.ReadReply(conn)
	if err == nil && ok != yes {
		err = fmt.Errorf("wrong answer: %v %s", ok, reason)
	}
	return err
}
