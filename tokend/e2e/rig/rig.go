// Package rig builds tokend and its helper and runs them as their users do, for
// the demonstration, the benchmark and the tests of the built programs.
package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Root is the folder of the project, where go.mod is.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("ask go where the project is: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// CheckerName is the name under which iRODS runs the helper.
const CheckerName = "irodsPamAuthCheck"

// Site is a folder with everything of one installation: programs, sockets,
// state and log. Its path is short, as a socket's must be.
type Site struct {
	Dir     string
	Env     []string // of the daemon that Start starts, beside the caller's own
	daemons []*Daemon
}

// longest of the names of the site's sockets.
const longest = "syslog.sock"

// NewSite makes the folder. Remove it with Close.
func NewSite() (*Site, error) {
	dir, err := os.MkdirTemp("", "tokend-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("find the folder: %w", err)
	}
	if strings.ContainsAny(dir, `'"`) {
		return nil, errors.Join(fmt.Errorf("%s has a quote in it, which neither the build nor the configuration takes: set TMPDIR to a folder without", dir), os.Remove(dir))
	}
	if path := filepath.Join(dir, longest); len(path) > 107 {
		return nil, errors.Join(fmt.Errorf("%s is too long for a socket: set TMPDIR to a folder with a shorter path", path), os.Remove(dir))
	}
	// Others of the machine must get to the sockets, as in /run/tokend.
	return &Site{Dir: dir}, os.Chmod(dir, 0o755)
}

// Close ends the daemons that still run, by force, and removes the folder.
func (s *Site) Close() error {
	var errs []error
	for _, d := range s.daemons {
		errs = append(errs, d.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}

// Path returns the path of something in the folder.
func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }

// AuthSocket is the path of the auth socket.
func (s *Site) AuthSocket() string { return s.Path("auth.sock") }

// AdminSocket is the path of the admin socket.
func (s *Site) AdminSocket() string { return s.Path("admin.sock") }

// Config is the path of the configuration.
func (s *Site) Config() string { return s.Path("tokend.toml") }

// Log is the path of the daemon's log.
func (s *Site) Log() string { return s.Path("log") }

// Syslog is the path of the socket that the helper takes for the system's log.
func (s *Site) Syslog() string { return s.Path("syslog.sock") }

// Tokend is the path of the daemon.
func (s *Site) Tokend() string { return s.Path("tokend") }

// Helper is the path of pamhelper.
func (s *Site) Helper() string { return s.Path("pamhelper") }

// Checker is the path of pamhelper under the name of iRODS's checker.
func (s *Site) Checker() string { return s.Path(CheckerName) }

// Build makes tokend, and the helper for this site's sockets under both of its
// names.
func (s *Site) Build(ctx context.Context, race bool) error {
	if err := s.BuildTokend(ctx, race); err != nil {
		return err
	}
	if err := s.BuildHelper(ctx, s.Helper(), runtime.GOARCH); err != nil {
		return err
	}
	return os.Link(s.Helper(), s.Checker())
}

// Interruptible ends with what ends a program that must leave no daemon behind: also
// where its terminal is gone, or who reads only its first lines.
func Interruptible() (ctx context.Context, stop context.CancelFunc) {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		ends = append(ends, syscall.SIGHUP)
	}
	return signal.NotifyContext(context.Background(), ends...)
}

// Interrupted leaves, of all that failed for the sake of an end that was wanted, that word.
func Interrupted(ctx context.Context, err *error) {
	if *err != nil && ctx.Err() != nil {
		*err = errors.New("interrupted")
	}
}

// buildFlags are those of make build, so that all is compiled once.
var buildFlags = []string{"build", "-trimpath", "-buildvcs=false"}

// BuildTokend makes the daemon, with the race detector if wanted.
func (s *Site) BuildTokend(ctx context.Context, race bool) error {
	args := slices.Concat(buildFlags, []string{"-o", s.Tokend()})
	env := "CGO_ENABLED=0"
	if race {
		args, env = append(args, "-race"), "CGO_ENABLED=1"
	}
	return goTool(ctx, []string{env}, append(args, "./tokend")...)
}

// BuildHelper makes the helper for this site's sockets. More are further
// arguments of go build.
func (s *Site) BuildHelper(ctx context.Context, path, arch string, more ...string) error {
	flags := fmt.Sprintf("-E main.entry -X 'main.socketPath=%s' -X 'main.syslogPath=%s'", s.AuthSocket(), s.Syslog())
	args := slices.Concat(buildFlags, []string{"-ldflags", flags, "-o", path}, more)
	return goTool(ctx, []string{"CGO_ENABLED=0", "GOARCH=" + arch}, append(args, "./pamhelper")...)
}

func goTool(ctx context.Context, env []string, args ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// WriteConfig writes the site's configuration: its own paths, the caller among
// the peers, and the given lines behind.
func (s *Site) WriteConfig(metrics string, more ...string) error {
	text := fmt.Sprintf(`[auth]
socket = %q
peers = ["%d"]
[admin]
socket = %q
peers = ["%d"]
[http]
metrics = %q
[store]
url = "sqlite:%s"
[log]
format = "json"
level = "debug"
`, s.AuthSocket(), os.Getuid(), s.AdminSocket(), os.Getuid(), metrics, s.Path("state/tokend.db"))
	return os.WriteFile(s.Config(), []byte(text+strings.Join(more, "\n")+"\n"), 0o600)
}

// FreeAddress returns a loopback address that nobody listens on.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
