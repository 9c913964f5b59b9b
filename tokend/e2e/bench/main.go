// Bench measures, side by side in one run: the wall time of pamhelper against a
// static C program that does the same socket exchange; how many checks a daemon answers
// in a second, one connection each; and daemons over PostgreSQL and Redis against what a
// bare client gets out of these.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"tokend/tokend/e2e/rig"
)

// bench is what to measure, and how.
type bench struct {
	site   *rig.Site // where the programs are
	load   string    // testdata/load.c, built
	runs   int
	span   time.Duration
	rounds int
	tokens int
}

func main() {
	b := new(bench)
	flag.IntVar(&b.runs, "runs", 1000, "how often each helper runs")
	flag.DurationVar(&b.span, "span", 2*time.Second, "how long each load lasts")
	flag.IntVar(&b.rounds, "rounds", 5, "how often the loads are measured that are compared")
	flag.IntVar(&b.tokens, "tokens", 1_000_000, "how many there are in PostgreSQL")
	only := flag.String("only", "", "one part alone: helper, daemon, redis, store, size or fleet")
	flag.Parse()
	if err := b.run(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(only string) (err error) {
	ctx, stop := rig.Interruptible()
	defer stop()
	defer rig.Interrupted(ctx, &err)
	if b.site, err = rig.NewSite(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.site.Close()) }()
	progress("building ...")
	b.load = b.site.Path("load")
	if err := errors.Join(b.site.Build(ctx, false), buildC(ctx, askC, b.site.Path("ask")), buildC(ctx, loadC, b.load)); err != nil {
		return err
	}
	progress("")
	fmt.Printf("%s, %s/%s, %d processors\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if only == "" || only == "helper" || only == "daemon" {
		if err := b.one(ctx, only); err != nil {
			return err
		}
	}
	if only == "helper" || only == "daemon" {
		return nil
	}
	return b.fleet(ctx, only)
}

// one measures a daemon with the embedded database.
func (b *bench) one(ctx context.Context, only string) (err error) {
	if err := quiet(b.site); err != nil {
		return err
	}
	daemon, err := b.site.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	secret, err := b.site.Run(ctx, "", "token", "create", "--user", "alice")
	if err != nil {
		return err
	}
	if only != "daemon" {
		if err := compareHelpers(ctx, b.site, secret, b.runs); err != nil {
			return err
		}
	}
	if only == "helper" {
		return nil
	}
	return loads(ctx, b, b.site, secret)
}

// quiet is the configuration of a site as shipped: no debug lines. Each pair of
// replacements changes more of it.
func quiet(site *rig.Site, replacements ...string) error {
	if err := site.WriteConfig(""); err != nil {
		return err
	}
	text, err := os.ReadFile(site.Config())
	if err != nil {
		return err
	}
	text = []byte(strings.NewReplacer(append(replacements, `level = "debug"`, `level = "info"`)...).Replace(string(text)))
	return os.WriteFile(site.Config(), text, 0o600)
}

// buildC makes a static program of the source.
func buildC(ctx context.Context, source, program string) error {
	cmd := exec.CommandContext(ctx, "cc", "-O2", "-static", "-x", "c", "-o", program, "-")
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w\n%s", err, out)
	}
	return nil
}
