package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pause stops a server's process, which stands when pause returns.
func (p *process) pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause %s: %w", p.cmd.Path, err)
	}
	return stopped(p.cmd.Process.Pid)
}

func (p *process) resume() error {
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("resume %s: %w", p.cmd.Path, err)
	}
	return nil
}

// children are the server's own, which may be in groups and sessions of their own: those of
// PostgreSQL are.
func (p *process) children() ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || p == nil {
		return nil, err
	}
	var pids []int
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		if state, parent := stat(pid); parent == p.cmd.Process.Pid && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// signal sends one to processes, of which some may have ended.
func signal(pids []int, s syscall.Signal) error {
	var all error
	for _, pid := range pids {
		if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
			all = errors.Join(all, fmt.Errorf("%s to %d: %w", s, pid, err))
		}
	}
	return all
}

// stopped waits until a process stands, or is no more.
func stopped(pid int) error { return await(pid, "stop", "T", "", "Z") }

// gone waits until a process is no more.
func gone(pid int) error { return await(pid, "end", "", "Z") }

// await waits until a process is in one of the states.
func await(pid int, to string, states ...string) error {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if state, _ := stat(pid); slices.Contains(states, state) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not %s", pid, to)
}

// stat is a process's state, "" when there is none, and its parent.
func stat(pid int) (state string, parent int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	// The name before it, in brackets, may be anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	return fields[0], parent
}
