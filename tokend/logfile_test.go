package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/config"
)

// logFile opens a file for a log, as a shell's >> does.
func logFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// devFull opens a disk that is full.
func devFull(t *testing.T) *os.File {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	return full
}

// writeAll writes lines, and waits until they are written or lost.
func writeAll(t *testing.T, w *logWriter, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if _, err := w.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, w)
}

// wantLog compares a file with an expression for all that is in it.
func wantLog(t *testing.T, file *os.File, want string) {
	t.Helper()
	text, err := os.ReadFile(file.Name())
	if err != nil || !regexp.MustCompile("^"+want+"$").Match(text) {
		t.Errorf("got %q, %v, want %s", text, err, want)
	}
}

// TestLinesThatCouldNotBeWrittenAreTold: the disk was full for a while. The
// notices that it did not take either are no lines that are missing.
func TestLinesThatCouldNotBeWrittenAreTold(t *testing.T) {
	w := newLogWriter(devFull(t), config.Log{Format: "json"}, prometheus.NewRegistry())
	go w.run()
	const lines = 270
	writeAll(t, w, strings.Split(strings.Repeat("gone\n ", lines-1)+"gone\n", " ")...)
	for range 2 {
		w.drain()
		settle(t, w)
	}
	file := logFile(t)
	w.file, w.atOnce = file, nil
	writeAll(t, w, "again\n", "more\n")
	wantLog(t, file, `{"time":[^\n]*,"lines":270}\nagain\nmore\n`)
	if lost := countLost(t, w); lost != lines {
		t.Errorf("%d are counted as lost, want %d", lost, lines)
	}
}

// TestEndOfTheLogTellsWhatIsMissing: the disk is free again when the daemon ends.
func TestEndOfTheLogTellsWhatIsMissing(t *testing.T) {
	w := textLog(devFull(t))
	go w.run()
	writeAll(t, w, "gone\n", "gone\n", "gone\n")
	file := logFile(t)
	w.file = file
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	settle(t, w)
	wantLog(t, file, `time=[^\n]* lines=3\n`)
}

// TestLineThatWasCutHasItsOwnEnd: the disk was full in the middle of it.
func TestLineThatWasCutHasItsOwnEnd(t *testing.T) {
	file := logFile(t)
	w := textLog(devFull(t))
	w.atOnce = func(line []byte) (int, error) { return file.Write(line[:4]) }
	go w.run()
	writeAll(t, w, "half and half\n")
	w.file, w.atOnce = file, nil
	writeAll(t, w, "again\n")
	wantLog(t, file, `half\ntime=[^\n]* lines=1\nagain\n`)
}

// TestLinesAfterOneThatWasCutStandAlone: the disk stays full after it, then has
// room for the end of that line, and later for all.
func TestLinesAfterOneThatWasCutStandAlone(t *testing.T) {
	file := logFile(t)
	w := textLog(file)
	go w.run()
	room := diskFull(t)
	room(4)
	writeAll(t, w, "half and half\n", "gone\n")
	room(5)
	writeAll(t, w, "gone\n", "gone\n")
	room(1 << 20)
	writeAll(t, w, "again\n", "more\n")
	wantLog(t, file, `half\ntime=[^\n]* lines=4\nagain\nmore\n`)
	if lost := countLost(t, w); lost != 4 {
		t.Errorf("%d are counted as lost, want 4", lost)
	}
}

// diskFull returns a function that lets the files of this process grow to a size
// and no further, until the test ends.
func diskFull(t *testing.T) (room func(size uint64)) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	signal.Ignore(unix.SIGXFSZ) // a write has its error all the same
	t.Cleanup(func() {
		set(was)
		signal.Reset(unix.SIGXFSZ)
	})
	return func(size uint64) { set(unix.Rlimit{Cur: size, Max: was.Max}) }
}

// TestFileIsAppendedTo: it has text already, and another program writes to it.
func TestFileIsAppendedTo(t *testing.T) {
	file := logFile(t)
	another, err := os.OpenFile(file.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	say := func(text string) {
		if _, err := another.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	say("before\n")
	w := textLog(file)
	go w.run()
	writeAll(t, w, "one\n")
	say("between\n")
	writeAll(t, w, "two\n")
	wantLog(t, file, `before\none\nbetween\ntwo\n`)
}
