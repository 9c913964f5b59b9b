// Demo shows what tokend does, on a machine with Go alone and without root: it
// starts the daemon in a temporary folder, and logs in as iRODS and PAM do, with
// right and wrong tokens. Anything but the expected outcome makes it exit 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"tokend/tokend/e2e/rig"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := rig.Interruptible()
	defer stop()
	defer rig.Interrupted(ctx, &err)
	site, err := rig.NewSite()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	fmt.Println("Building tokend and its helper (the first time takes a few minutes) ...")
	if err := errors.Join(site.Build(ctx, false), site.WriteConfig("")); err != nil {
		return err
	}
	daemon, err := site.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	fmt.Printf("tokend serves in %s, as process %d.\n\n", site.Dir, daemon.PID())
	return show(ctx, site)
}

// login is one line of the demonstration.
type login struct {
	what, user, secret string
	want               string // the reason in the daemon's log; "ok" is a yes
}

func show(ctx context.Context, site *rig.Site) error {
	logins, err := prepare(ctx, site)
	if err != nil {
		return err
	}
	ways := []struct {
		title string
		ask   func(ctx context.Context, user, secret string) (rig.Answer, error)
	}{
		{"As iRODS runs it: irodsPamAuthCheck USER, the token on a pipe", site.AskAsIRODS},
		{"As pam_exec runs it: pamhelper, PAM_USER in the environment", site.AskAsPAM},
	}
	wrong := 0
	for _, way := range ways {
		fmt.Println(way.title)
		for _, l := range logins {
			answer, err := way.ask(ctx, l.user, l.secret)
			if err != nil {
				return err
			}
			verdicts, err := site.Verdicts()
			if err != nil || len(verdicts) == 0 {
				return errors.Join(errors.New("the daemon's log has no verdict"), err)
			}
			reason := verdicts[len(verdicts)-1].Reason
			right := answer.OK() == (l.want == "ok") && reason == l.want && answer.Plain()
			if !right {
				wrong++
			}
			report(l, answer, reason, right)
		}
		fmt.Println()
	}
	if wrong > 0 {
		return fmt.Errorf("%d wrong outcomes", wrong)
	}
	fmt.Println("All as it should be. The reasons are from the daemon's log; the one who logs in sees none.")
	return nil
}

// prepare makes the tokens, good and bad.
func prepare(ctx context.Context, site *rig.Site) ([]login, error) {
	var err error
	create := func(label, life string) string {
		secret, failed := site.Run(ctx, "", "token", "create", "--user", "alice", "--label", label, "--expires", life)
		if failed != nil {
			err = errors.Join(err, failed)
		}
		return secret
	}
	good, short, revoked := create("laptop", "30d"), create("a moment", "1s"), create("lost", "never")
	if err != nil {
		return nil, err
	}
	if _, err := site.Run(ctx, revoked, "token", "revoke", "--secret", "-"); err != nil {
		return nil, err
	}
	select {
	case <-time.After(1100 * time.Millisecond): // until the short one has expired
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return []login{
		{"alice with her token", "alice", good, "ok"},
		{"alice with a typo", "alice", rig.Typo(good), "malformed"},
		{"bob with alice's token", "bob", good, "wrong-user"},
		{"alice, token expired", "alice", short, "expired"},
		{"alice, token revoked", "alice", revoked, "revoked"},
	}, nil
}

func report(l login, answer rig.Answer, reason string, right bool) {
	outcome, mark := "refused", ""
	if answer.OK() {
		outcome = "in"
	}
	if !right {
		mark = "   <-- WRONG, " + l.want + " was expected"
	}
	fmt.Printf("  %-24s %-8s %-11s %5.1f ms   %s%s\n", l.what, outcome, reason,
		float64(answer.Took.Microseconds())/1000, strings.TrimSpace(answer.Stdout), mark)
}
