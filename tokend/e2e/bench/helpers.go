package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"syscall"
	"time"

	"tokend/tokend/e2e/rig"
)

//go:embed testdata/ask.c
var askC string

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
	w := newTable("\na check from fork to exit (%d runs each, in turns)\tmedian\t90 %%\t99 %%", runs)
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
