package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"tokend/config"
	"tokend/tokend/token"
)

// patience is how long a test waits for what should take a moment.
const patience = 10 * time.Second

// promptly ends the test if something takes too long.
func promptly(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s takes more than %s", what, patience)
	}
}

// settle waits until all that is queued was written, or could not be.
func settle(t *testing.T, w *logWriter) {
	t.Helper()
	promptly(t, "what is queued", func() { <-w.put(logLine{}) })
	if queued := w.queued.Load(); queued != 0 {
		t.Errorf("%d lines are said to be queued, and none is", queued)
	}
}

// TestAMomentCostsNothing of what may be spent on waiting for the log.
func TestAMomentCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for took, left := range map[time.Duration]time.Duration{
			time.Millisecond: maxLogWait, 2 * time.Millisecond: maxLogWait - 2*time.Millisecond, time.Hour: 0,
		} {
			w := &logWriter{budget: maxLogWait, at: time.Now()}
			written := make(chan struct{})
			time.AfterFunc(took, func() { close(written) })
			w.await(written)
			if w.budget != left {
				t.Errorf("after %s %s are left, want %s", took, w.budget, left)
			}
			<-written
		}
	})
}

func countLost(t *testing.T, w *logWriter) int {
	t.Helper()
	var counted dto.Metric
	if err := w.lost.Write(&counted); err != nil {
		t.Fatal(err)
	}
	return int(counted.GetCounter().GetValue())
}

func textLog(file *os.File) *logWriter {
	return newLogWriter(file, config.Log{Format: "text"}, prometheus.NewRegistry())
}

// logEnds opens what a log may go to, and its other end.
var logEnds = map[string]func(t *testing.T) (reader, writer *os.File){
	"pipe": func(t *testing.T) (reader, writer *os.File) {
		t.Helper()
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		return reader, writer
	},
	"socket": func(t *testing.T) (reader, writer *os.File) { // as journald gives it
		t.Helper()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fds[0], true); err != nil { // or a read has no deadline
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "writer")
	},
	"terminal": func(t *testing.T) (reader, writer *os.File) {
		t.Helper()
		fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			t.Fatal(err)
		}
		number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
		if err != nil {
			t.Fatal(err)
		}
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		modes.Oflag &^= unix.OPOST // which makes \n to \r\n
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, modes); err != nil {
			t.Fatal(err)
		}
		writer, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), "reader"), writer
	},
}

// onEach runs a test with each kind of log.
func onEach(t *testing.T, test func(t *testing.T, reader *os.File, w *logWriter)) {
	t.Helper()
	for kind, open := range logEnds {
		t.Run(kind, func(t *testing.T) {
			reader, writer := open(t)
			defer reader.Close()
			if err := reader.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			test(t, reader, textLog(writer))
		})
	}
}

// TestLogIsWrittenAtOnce: what is taken without waiting is not queued.
func TestLogIsWrittenAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, reader *os.File, w *logWriter) {
		t.Helper()
		if n, err := w.Write([]byte("now\n")); n != 4 || err != nil || len(w.queue) > 0 {
			t.Fatalf("%d of 4 bytes are written, %d lines are queued: %v", n, len(w.queue), err)
		}
		if got, err := bufio.NewReader(reader).ReadString('\n'); got != "now\n" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestLogThatNobodyReadsIsNotWaitedFor(t *testing.T) {
	onEach(t, func(t *testing.T, reader *os.File, w *logWriter) {
		t.Helper()
		go w.run()
		line := []byte(strings.Repeat("x", 1023) + "\n")
		written := 0
		const lines = 2000 // a pipe holds 64, a socket some more, the queue 1024
		promptly(t, "what nobody reads", func() {
			for range lines {
				if _, err := w.Write(line); err == nil {
					written++
				}
			}
		})
		if lost := countLost(t, w); lost+written != lines || written < 10 || lost < 10 {
			t.Errorf("%d lines were written and %d are counted as lost, of %d", written, lost, lines)
		}

		// It is read again: what is missing is said.
		var read []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for scanner := bufio.NewScanner(reader); scanner.Scan(); {
				read = append(read, scanner.Text())
				if scanner.Text() == "again" {
					return
				}
			}
		}()
		for deadline := time.Now().Add(patience); ; {
			if _, err := w.Write([]byte("again\n")); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing is written although it is read")
			}
			time.Sleep(time.Millisecond)
		}
		promptly(t, "reading it", func() { <-done })
		settle(t, w)
		if len(read) < written+2 || read[len(read)-1] != "again" {
			t.Fatalf("%d lines were read, want %d, what is missing, and %q", len(read), written, "again")
		}
		told := 0
		for _, notice := range read[written : len(read)-1] { // more than one, if there was room for it alone
			var lines int
			_, after, _ := strings.Cut(notice, ` level=ERROR msg="lines of the log are missing here: they could not be written" `)
			if _, err := fmt.Sscanf(after, "lines=%d", &lines); err != nil {
				t.Errorf("instead of what is missing stands %.100q", notice)
			}
			told += lines
		}
		if lost := countLost(t, w); told != lost {
			t.Errorf("%d lines are told to be missing, %d are counted as lost", told, lost)
		}
	})
}

// TestOrderOfTheLogIsKept: the reader stops and goes on. Who writes uses one
// buffer for all lines, as slog does.
func TestOrderOfTheLogIsKept(t *testing.T) {
	onEach(t, func(t *testing.T, reader *os.File, w *logWriter) {
		t.Helper()
		var want, got strings.Builder
		var buffer []byte
		write := func() {
			buffer = fmt.Appendf(buffer[:0], "%01000d\n", want.Len())
			want.Write(buffer)
			if _, err := w.Write(buffer); err != nil {
				t.Error(err)
			}
		}
		promptly(t, "what nobody reads", func() {
			for len(w.queue) < 3 {
				write()
			}
		})
		// There is room again, but not for a line that others wait before.
		if _, err := io.CopyN(&got, reader, int64(want.Len()/3)); err != nil {
			t.Fatal(err)
		}
		write()
		go w.run()
		if _, err := io.CopyN(&got, reader, int64(want.Len()-got.Len())); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("the lines begin with %s, want them in order", numbers(got.String()))
		}
	})
}

// numbers shortens lines that begin with many zeros.
func numbers(lines string) []string {
	var all []string
	for line := range strings.Lines(lines) {
		all = append(all, strings.Trim(line, "0\n"))
	}
	return all
}

func TestEndOfTheLogIsNotWaitedForLong(t *testing.T) {
	for _, row := range []struct {
		queue string
		isIt  func(w *logWriter, err error) bool
	}{
		{"with room", func(w *logWriter, _ error) bool { return len(w.queue) > 0 }},
		{"full", func(_ *logWriter, err error) bool { return err != nil }},
	} {
		t.Run(row.queue, func(t *testing.T) {
			reader, writer := logEnds["pipe"](t)
			defer reader.Close()
			w := textLog(writer)
			go w.run()
			promptly(t, "filling it", func() {
				for {
					_, err := w.Write([]byte(strings.Repeat("x", 1023) + "\n"))
					if row.isIt(w, err) {
						return
					}
				}
			})
			promptly(t, "the end", func() {
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestLongLineIsWrittenWhole(t *testing.T) {
	onEach(t, func(t *testing.T, reader *os.File, w *logWriter) {
		t.Helper()
		go w.run()
		line := strings.Repeat("0123456789", 50000) + "\n"
		promptly(t, "what nobody reads", func() {
			if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
				t.Errorf("wrote %d of %d bytes: %v", n, len(line), err)
			}
		})
		if got, err := bufio.NewReader(reader).ReadString('\n'); got != line || err != nil {
			t.Errorf("read %d of %d bytes: %v", len(got), len(line), err)
		}
	})
}

// TestNoLineHoldsATokenOrSteersATerminal, wherever in it somebody has put one, whole or
// but for its end.
func TestNoLineHoldsATokenOrSteersATerminal(t *testing.T) {
	secret := token.Mint().Reveal()
	for format, want := range map[string]string{
		"text": `user="a\u009b2Jb\x7fc\u202e" err="irt_[redacted] is no address" took=1ms n=7`,
		"json": `"user":"a\\u009b2Jb\\u007fc\\u202e","err":"irt_[redacted] is no address","took":"1ms","n":7`,
	} {
		var out strings.Builder
		log, _ := newLogger(&out, config.Log{Format: format})
		log.Info("a line", "given", secret[:40], "user", "a\u009b2Jb\x7fc\u202e", "err", errors.New(secret+" is no address"), "took", time.Millisecond, "n", 7)
		if line := out.String(); strings.Contains(line, secret[4:16]) || !strings.Contains(line, want) {
			t.Errorf("%s: got %s, want %s", format, line, want)
		}
	}
}
