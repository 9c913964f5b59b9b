package rig

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

// Answer is how a helper ended.
type Answer struct {
	Status int // exit status
	Stdout string
	Stderr string
	Took   time.Duration
}

// OK reports a yes.
func (a Answer) OK() bool { return a.Status == 0 }

// Plain reports a yes or a no as iRODS knows them: the status, and the words for it.
func (a Answer) Plain() bool {
	switch a.Stdout {
	case "Authenticated\n":
		return a.Status == 0
	case "Not Authenticated\n":
		return a.Status == 1
	}
	return false
}

// AskAsIRODS runs the helper in place of iRODS's checker: the user name as its
// argument, the secret on a pipe without a newline, then the end.
func (s *Site) AskAsIRODS(ctx context.Context, user, secret string) (Answer, error) {
	cmd := exec.CommandContext(ctx, s.Checker(), user)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	return ask(cmd, secret)
}

// AskAsPAM runs the helper as pam_exec does: the user name in PAM_USER, the
// secret with a NUL behind it (as Linux-PAM 1.3 does), nothing else.
func (s *Site) AskAsPAM(ctx context.Context, user, secret string) (Answer, error) {
	cmd := exec.CommandContext(ctx, s.Helper())
	cmd.Env = []string{"PAM_SERVICE=irods", "PAM_TYPE=auth", "PAM_USER=" + user}
	return ask(cmd, secret+"\x00")
}

func ask(cmd *exec.Cmd, secret string) (Answer, error) {
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(secret), &stdout, &stderr
	begun := time.Now()
	err := cmd.Run()
	answer := Answer{Stdout: stdout.String(), Stderr: stderr.String(), Took: time.Since(begun)}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		answer.Status = exit.ExitCode()
		return answer, nil
	}
	return answer, err
}

// Typo returns the secret with one character in the middle changed.
func Typo(secret string) string {
	other := "a"
	if secret[20:21] == other {
		other = "b"
	}
	return secret[:20] + other + secret[21:]
}
