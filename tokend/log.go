package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/config"
	"tokend/tokend/token"
)

// newLogger returns the daemon's log and the level that a reload may change. What looks
// like a token is in no line: people paste theirs into the wrong place.
func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: forJSON})), level
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: redacted})), level
}

func redacted(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(token.Redact(v))
	case error:
		a.Value = slog.StringValue(token.Redact(v.Error()))
	}
	return a
}

// forJSON is redacted for JSON, in which a duration would be a number without a unit, and
// what steers a terminal would stand as it is.
func forJSON(groups []string, a slog.Attr) slog.Attr {
	a = redacted(groups, a)
	switch v := a.Value.Any().(type) {
	case time.Duration:
		a.Value = slog.StringValue(v.String())
	case string:
		a.Value = slog.StringValue(escaped(v))
	}
	return a
}

// escaped spells out what does not print and JSON leaves as it is.
func escaped(s string) string {
	hidden := func(r rune) bool { return r > unicode.MaxASCII && !unicode.IsPrint(r) || r == '\x7f' }
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

const (
	// logQueue is how many lines wait for a reader that has stopped.
	logQueue = 1024

	// The log is waited for at most this long at once, and over time for at
	// most one part in logShare.
	maxLogWait = 500 * time.Millisecond
	logShare   = 20

	// lastLogWait is how long the end of the daemon waits for the log.
	lastLogWait = time.Second
)

// logWriter writes the log to a file, a pipe or a terminal that may have stopped
// reading: then lines wait in a queue, and are left out and counted when that is
// full, because a login must not wait for them. While it is read, Write returns
// when the line is written.
type logWriter struct {
	file   *os.File
	atOnce func([]byte) (int, error) // writes what is taken without waiting; nil: nobody can say
	again  *os.File                  // the file opened anew, or nil
	format config.Log
	queue  chan logLine
	queued atomic.Int64 // lines that are not written yet
	lost   prometheus.Counter
	failed atomic.Int64 // lines of which no notice tells: they, or their notice, could not be written

	mu      sync.Mutex
	missing int           // lines since the last notice that was queued
	budget  time.Duration // for waiting
	at      time.Time     // when the budget was reckoned
}

type logLine struct {
	text    []byte
	begun   bool // the text is the rest of a line
	tells   int  // of so many missing lines, if it is a notice
	written chan struct{}
}

func newLogWriter(file *os.File, format config.Log, reg prometheus.Registerer) *logWriter {
	w := &logWriter{
		file: file, format: format, queue: make(chan logLine, logQueue), budget: maxLogWait, at: time.Now(),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tokend_log_lines_lost_total",
			Help: "Lines of the log that were left out because nobody read it, or could not be written.",
		}),
	}
	reg.MustRegister(w.lost)
	w.findOut()
	return w
}

// run writes what is queued, for as long as the process lives: a write that
// hangs can't be ended.
func (w *logWriter) run() {
	torn := false
	for line := range w.queue {
		if len(line.text) > 0 {
			torn = w.write(line, torn)
		}
		w.queued.Add(-1)
		close(line.written)
	}
}

// write writes what was queued. Torn says whether the file ends in the middle of
// a line, before and after.
func (w *logWriter) write(line logLine, torn bool) bool {
	if torn {
		line.text = slices.Concat([]byte("\n"), line.text)
	}
	n, err := w.file.Write(line.text)
	switch {
	case err == nil:
	case line.tells > 0:
		w.failed.Add(int64(line.tells))
	default:
		w.failed.Add(1)
		w.lost.Inc()
	}
	if n > 0 {
		return line.text[n-1] != '\n'
	}
	return torn || line.begun
}

var errLineLost = errors.New("the log is not read: a line was left out")

// Write queues one line, or leaves it out. Before the first line that follows
// those left out stands one that says how many they were.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if notice := w.notice(); notice.tells > 0 && w.put(notice) == nil {
		return 0, w.lose()
	}
	w.missing = 0
	taken := 0
	if w.atOnce != nil && w.queued.Load() == 0 {
		if n, _ := w.atOnce(line); n > 0 { // an error is met again below
			taken = n
		}
	}
	if taken == len(line) {
		return taken, nil
	}
	written := w.put(logLine{text: line[taken:], begun: taken > 0})
	if written == nil {
		return 0, w.lose()
	}
	w.await(written)
	return len(line), nil
}

// notice is the line that tells of those that are missing, or an empty one if none
// is.
func (w *logWriter) notice() logLine {
	w.missing += int(w.failed.Swap(0))
	if w.missing == 0 {
		return logLine{}
	}
	var line bytes.Buffer
	log, _ := newLogger(&line, w.format)
	log.Error("lines of the log are missing here: they could not be written", "lines", w.missing)
	return logLine{text: line.Bytes(), tells: w.missing}
}

func (w *logWriter) lose() error {
	w.missing++
	w.lost.Inc()
	return errLineLost
}

// put queues a copy of a line and returns what is closed when it is written, or
// nil if there is no room.
func (w *logWriter) put(line logLine) (written chan struct{}) {
	line.text, line.written = slices.Clone(line.text), make(chan struct{})
	w.queued.Add(1)
	select {
	case w.queue <- line:
		return line.written
	default:
		w.queued.Add(-1)
		return nil
	}
}

// await waits until the line is written, or the budget is used up. A moment
// costs none of it.
func (w *logWriter) await(written chan struct{}) {
	const moment = time.Millisecond
	begun := time.Now()
	w.budget = min(w.budget+begun.Sub(w.at)/logShare, maxLogWait)
	w.at = begun
	limit := time.NewTimer(max(w.budget, 0))
	defer limit.Stop()
	select {
	case <-written:
	case <-limit.C:
	}
	if took := time.Since(begun); took > moment {
		w.budget -= took
	}
}

// Close waits a while for what is queued, and tells of what is missing. The file
// stays open.
func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.atOnce = nil
	w.drain()
	if w.again == nil {
		return nil
	}
	return w.again.Close()
}

func (w *logWriter) drain() {
	last := w.notice()
	last.written = make(chan struct{})
	limit := time.After(lastLogWait)
	w.queued.Add(1)
	select {
	case w.queue <- last:
		w.missing = 0
	case <-limit:
		w.queued.Add(-1)
		return
	}
	select {
	case <-last.written:
	case <-limit:
	}
}

// findOut finds out how to write to the file what it takes at once, if that can
// be known. Of a file on a disk it can't: the disk may hang.
func (w *logWriter) findOut() {
	info, err := w.file.Stat()
	switch {
	case err != nil, info.Mode().IsRegular():
	case info.Mode().Type() == fs.ModeSocket:
		fd := int(w.file.Fd())
		w.atOnce = func(line []byte) (int, error) {
			return unix.SendmsgN(fd, line, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	default:
		// Opened anew, it can be made not to wait without others noticing who have
		// it, too.
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.file.Fd()), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		w.again = os.NewFile(uintptr(fd), w.file.Name())
		w.atOnce = func(line []byte) (int, error) { return unix.Write(fd, line) }
	}
}
