package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// startTimeout is how long a server may take to answer.
const startTimeout = 30 * time.Second

// process is a server that was started.
type process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{} // closed when it has
}

// serve starts a server, whose output goes to the file, and waits until it answers. One
// that does not is ended.
func serve(cmd *exec.Cmd, log string, ask func(context.Context) error) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = file, file
	if err := errors.Join(cmd.Start(), file.Close()); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // whoever ends it wants that, and await says it of the others
	}()
	if err := p.await(ask); err != nil {
		return nil, errors.Join(err, p.end(syscall.SIGKILL, 0))
	}
	return p, nil
}

// await waits until the server answers, or has ended.
func (p *process) await(ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-p.ended:
			stop() // a question that nobody will answer
		case <-asking.Done():
		}
	}()
	for {
		err := ask(asking)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended (%s) before it answered; its log:\n%s", p.cmd.Path, p.cmd.ProcessState, p.text())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; its log:\n%s", p.cmd.Path, err, p.text())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) text() []byte {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// end ends a server by the signal, or by SIGKILL when that takes too long.
func (p *process) end(by syscall.Signal, within time.Duration) error {
	if p == nil {
		return nil
	}
	// A stopped one hears of the signal when it goes on.
	for _, s := range []syscall.Signal{by, syscall.SIGCONT} {
		if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	late := time.AfterFunc(within, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	select {
	case <-p.ended:
		return nil
	case <-time.After(within + startTimeout):
		return fmt.Errorf("%s does not end, even by SIGKILL", p.cmd.Path)
	}
}
