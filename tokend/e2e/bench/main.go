// Bench measures, side by side in one run: the wall time of pamhelper against a
// static C program that does the same socket exchange, and how many checks the
// daemon answers in a second, one connection each.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"tokend/tokend/e2e/rig"
)

//go:embed testdata/ask.c
var askC string

func main() {
	runs := flag.Int("runs", 1000, "how often each helper runs")
	span := flag.Duration("span", 3*time.Second, "how long each load lasts")
	flag.Parse()
	if err := run(*runs, *span); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(runs int, span time.Duration) (err error) {
	ctx, stop := rig.Interruptible()
	defer stop()
	defer rig.Interrupted(ctx, &err)
	site, err := rig.NewSite()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	fmt.Fprintln(os.Stderr, "building ...")
	if err := errors.Join(site.Build(ctx, false), buildC(ctx, site), quiet(site)); err != nil {
		return err
	}
	daemon, err := site.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	secret, err := site.Run(ctx, "", "token", "create", "--user", "alice")
	if err != nil {
		return err
	}
	fmt.Printf("%s, %s/%s, %d processors\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if err := compareHelpers(ctx, site, secret, runs); err != nil {
		return err
	}
	return loads(ctx, site, secret, span)
}

// quiet is the configuration of a site as shipped: no debug lines.
func quiet(site *rig.Site) error {
	if err := site.WriteConfig(""); err != nil {
		return err
	}
	text, err := os.ReadFile(site.Config())
	if err != nil {
		return err
	}
	return os.WriteFile(site.Config(), []byte(strings.Replace(string(text), `level = "debug"`, `level = "info"`, 1)), 0o600)
}

func buildC(ctx context.Context, site *rig.Site) error {
	source := site.Path("ask.c")
	if err := os.WriteFile(source, []byte(askC), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cc", "-O2", "-static", "-o", site.Path("ask"), source).CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w\n%s", err, out)
	}
	return nil
}

// compareHelpers runs both in turns and prints the table.
func compareHelpers(ctx context.Context, site *rig.Site, secret string, runs int) error {
	programs := [2][]string{{site.Helper()}, {site.Path("ask"), site.AuthSocket()}}
	var times [2]series
	for i := range runs + 20 {
		for p, args := range programs {
			took, err := timed(args, secret)
			if err != nil {
				return err
			}
			if i >= 20 { // the first ones warm up
				times[p] = append(times[p], took)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "a check from fork to exit (%d runs each, in turns)\tmedian\t90 %%\t99 %%\n", runs)
	fmt.Fprintf(w, "pamhelper\t%s\n", times[0])
	fmt.Fprintf(w, "static C program\t%s\n", times[1])
	fmt.Fprintf(w, "ratio (goal: at most 1.3)\t%.2f\n\n", float64(times[0].quantile(0.5))/float64(times[1].quantile(0.5)))
	return w.Flush()
}

// timed runs a helper as pam_exec does, the secret in its pipe already, and
// takes the time from the fork to the end.
func timed(args []string, secret string) (time.Duration, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer read.Close()
	if _, err := write.WriteString(secret); err != nil {
		return 0, err
	}
	if err := write.Close(); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	begun := time.Now()
	pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{
		Env: []string{"PAM_USER=alice"}, Files: []uintptr{read.Fd(), null.Fd(), null.Fd()},
	})
	if err != nil {
		return 0, err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	if status != 0 {
		return 0, fmt.Errorf("%s says no: wait status %#x", args[0], int(status))
	}
	return took, nil
}
