package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokend/tokend/e2e/rig"
)

// wantBar runs tokend with a terminal to complain to, which wants to see a progress bar there, and nothing when it is done.
func wantBar(t *testing.T, site *rig.Site, doing string, args ...string) {
	t.Helper()
	screen, side := newTerminal(t)
	shown := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, screen) // ends with an error when the other side is closed
		shown <- all.String()
	}()
	cmd := exec.CommandContext(t.Context(), site.Tokend(), append(args, "--admin-socket", site.AdminSocket())...)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdout, cmd.Stderr = io.Discard, side
	err := cmd.Run()
	side.Close()
	if got := <-shown; err != nil || !strings.Contains(got, "\r"+doing+" [") || !strings.Contains(got, "%") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("the terminal shows %q, %v", got, err)
	}
}

// newTerminal returns the side of a new terminal that somebody looks at, and a program's.
func newTerminal(t *testing.T) (screen, side *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { screen.Close() })
	must(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetUint32(int(screen.Fd()), unix.TIOCGPTN)
	must(t, err)
	side, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	return screen, side
}
