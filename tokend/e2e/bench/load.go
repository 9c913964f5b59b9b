package main

import (
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

//go:embed testdata/load.c
var loadC string

// result is what testdata/load.c measured.
type result struct {
	checks              int
	took                time.Duration
	median, most, worst time.Duration // 50, 90 and 99 %
}

func (r result) perSecond() float64 { return float64(r.checks) / r.took.Seconds() }

func (r result) String() string {
	return fmt.Sprintf("%s\t%s\t%s", micro(r.median), micro(r.most), micro(r.worst))
}

// hammer asks the daemons of these sites in turns, so many at once, for the given time. A
// login is a user, a space and a secret. A wrong answer is an error.
func hammer(ctx context.Context, program string, sites []*rig.Site, atOnce int, span time.Duration, logins []string, want string) (r result, err error) {
	args := []string{want, strconv.Itoa(atOnce), strconv.FormatInt(span.Milliseconds(), 10)}
	for _, site := range sites {
		args = append(args, site.AuthSocket())
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(strings.Join(logins, "\n") + "\n")
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%w: %s", err, complaint.String())
	}
	var micros [4]int64
	if _, err := fmt.Sscan(string(out), &r.checks, &micros[0], &micros[1], &micros[2], &micros[3]); err != nil {
		return r, fmt.Errorf("read %q: %w", out, err)
	}
	for i, d := range []*time.Duration{&r.took, &r.median, &r.most, &r.worst} {
		*d = time.Duration(micros[i]) * time.Microsecond
	}
	return r, nil
}

// loads asks the daemon as fast as it answers and prints the table.
func loads(ctx context.Context, b *bench, site *rig.Site, good string) error {
	unknown := make([]string, int(b.span.Seconds()+1)*50_000)
	for i := range unknown {
		unknown[i] = "alice " + token.Mint().Reveal()
	}
	w := newTable("checks over the socket, one connection each (%s each)\tat once\tper second\tmedian\t90 %%\t99 %%", b.span)
	for _, load := range []struct {
		name, want string
		logins     []string
	}{
		{"right token, its record cached", "yes", []string{"alice " + good}},
		{"unknown token, a look-up in the store each", "no", unknown},
		{"no token at all", "no", []string{"alice password"}},
	} {
		for _, atOnce := range []int{1, 8, 64} {
			progress("%s, %d at once", load.name, atOnce)
			r, err := hammer(ctx, b.load, []*rig.Site{site}, atOnce, b.span, load.logins, load.want)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\n", load.name, atOnce, r.perSecond(), r)
		}
	}
	progress("")
	return w.Flush()
}
