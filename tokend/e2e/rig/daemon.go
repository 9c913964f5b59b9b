package rig

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Daemon is a running tokend of a site.
type Daemon struct {
	site  *Site
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// startTimeout is how long a daemon may take until it answers.
const startTimeout = 30 * time.Second

// Start runs tokend and waits until it answers on both sockets. Its log is
// appended to the site's.
func (s *Site) Start(ctx context.Context) (*Daemon, error) {
	cmd := exec.Command(s.Tokend(), "serve", "--config", s.Config())
	cmd.Env = append(os.Environ(), s.Env...)
	d, err := s.Launch(cmd)
	if err != nil {
		return nil, err
	}
	return d, d.Wait(ctx)
}

// Launch runs a command as the site's daemon, with its log unless the command has another
// standard error.
func (s *Site) Launch(cmd *exec.Cmd) (*Daemon, error) {
	log, err := os.OpenFile(s.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	if cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = log, log
	}
	d := &Daemon{site: s, cmd: cmd, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start tokend: %w", err)
	}
	s.daemons = append(s.daemons, d)
	go func() {
		d.err = cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// Wait waits until the daemon answers.
func (d *Daemon) Wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, path := range []string{d.site.AuthSocket(), d.site.AdminSocket()} {
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if err == nil {
				if err := conn.Close(); err != nil {
					return err
				}
				break
			}
			select {
			case <-d.ended:
				log, _ := os.ReadFile(d.site.Log())
				return fmt.Errorf("tokend ended: %w\n%s", d.err, log)
			case <-ctx.Done():
				return errors.Join(fmt.Errorf("tokend does not answer on %s", path), d.Kill())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// Used is the processor time that the daemon has used.
func (d *Daemon) Used() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const first, user, system, perSecond = 3, 14, 15, 100 // see proc_pid_stat(5)
	var used time.Duration
	for _, n := range []int{user, system} {
		ticks, err := strconv.Atoi(fields[n-first])
		if err != nil {
			return 0, err
		}
		used += time.Duration(ticks) * time.Second / perSecond
	}
	return used, nil
}

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Signal sends one to the daemon.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// Stop ends the daemon as the service manager does. An exit status other than 0
// is an error.
func (d *Daemon) Stop() error {
	if err := d.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return d.err
	case <-time.After(startTimeout):
		return errors.Join(errors.New("tokend did not end on SIGTERM"), d.Kill())
	}
}

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() error {
	err := d.cmd.Process.Kill()
	<-d.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Run runs a command of tokend and returns what it printed. The admin socket
// is the site's.
func (s *Site) Run(ctx context.Context, stdin string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Tokend(), append(args, "--admin-socket", s.AdminSocket())...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("tokend %s: %w: %s", strings.Join(args[:min(2, len(args))], " "), err, stderr.String())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// Line is what matters here of a line of the daemon's log.
type Line struct {
	Msg    string
	Reason string
}

// Verdicts returns the lines of the log that tell of a verdict, oldest first.
func (s *Site) Verdicts() ([]Line, error) {
	f, err := os.Open(s.Log())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var lines []Line
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		var l Line
		if err := json.Unmarshal(scanner.Bytes(), &l); err == nil && l.Msg == "verdict" {
			lines = append(lines, l)
		}
	}
	return lines, nil
}
