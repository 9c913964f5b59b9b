package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
)

var (
	//go:embed testdata/load.c
	loadC string
	//go:embed testdata/serve.c
	serveC string
)

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

// hammer asks the daemons at these sockets in turns, so many at once, for the given time. A
// login is a user, a space and a secret. A wrong answer is an error.
func hammer(ctx context.Context, program string, sockets []string, atOnce int, span time.Duration, logins []string, want string) (r result, err error) {
	args := append([]string{want, strconv.Itoa(atOnce), strconv.FormatInt(span.Milliseconds(), 10)}, sockets...)
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

// leastServer starts testdata/serve.c, which does nothing but answer.
func (b *bench) leastServer(ctx context.Context) (socket string, stop func() error, err error) {
	program, socket := b.site.Path("serve"), b.site.Path("serve.sock")
	if err := buildC(ctx, serveC, program); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(program, socket)
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	if _, err := out.Read(make([]byte, 1)); err != nil { // it listens, or has ended
		return "", nil, errors.Join(fmt.Errorf("start testdata/serve.c: %w", err), stop())
	}
	return socket, stop, nil
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
			r, err := hammer(ctx, b.load, []string{site.AuthSocket()}, atOnce, b.span, load.logins, load.want)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%s\n", load.name, atOnce, r.perSecond(), r)
		}
	}
	progress("")
	return w.Flush()
}
