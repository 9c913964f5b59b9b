package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/config"
)

// newLogger returns the daemon's log and the level that a reload may change.
func newLogger(w io.Writer, cfg config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" { // where a duration would be a number without a unit
		options.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		}
		return slog.New(slog.NewJSONHandler(w, options)), level
	}
	return slog.New(slog.NewTextHandler(w, options)), level
}

const (
	// The log is waited for at most this long at once, and over time for at
	// most one part in logShare.
	maxLogWait = 500 * time.Millisecond
	logShare   = 20

	// atOnce is how much a pipe that is ready takes without waiting: PIPE_BUF.
	atOnce = 4096
)

// logWriter writes the log to a file, a pipe or a terminal that may have stopped
// reading: then lines are left out and counted, because a login must not wait
// for them.
type logWriter struct {
	file *os.File
	lost prometheus.Counter

	mu      sync.Mutex
	missing int           // lines since the last one that was written
	budget  time.Duration // for waiting
	at      time.Time     // when the budget was reckoned
}

func newLogWriter(file *os.File, reg prometheus.Registerer) *logWriter {
	w := &logWriter{file: file, budget: maxLogWait, at: time.Now(), lost: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tokend_log_lines_lost_total",
		Help: "Lines of the log that were left out because nobody read it.",
	})}
	reg.MustRegister(w.lost)
	return w
}

var errLineLost = errors.New("the log is not read: a line was left out")

// Write writes one line, or leaves it out. Before the first line that follows
// those left out stands one that says how many they were.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.missing > 0 {
		notice := fmt.Sprintf("tokend: %d lines of the log are missing here: nobody read it\n", w.missing)
		if !w.put([]byte(notice)) {
			return 0, w.lose()
		}
		w.missing = 0
	}
	if !w.put(line) {
		return 0, w.lose()
	}
	return len(line), nil
}

func (w *logWriter) lose() error {
	w.missing++
	w.lost.Inc()
	return errLineLost
}

// put writes as much as is taken without waiting longer than the budget allows.
func (w *logWriter) put(line []byte) bool {
	for len(line) > 0 {
		if !w.ready() {
			return false
		}
		n, err := w.file.Write(line[:min(len(line), atOnce)])
		if err != nil {
			return false
		}
		line = line[n:]
	}
	return true
}

// ready waits until the file takes more, or the budget is used up.
func (w *logWriter) ready() bool {
	if w.poll(0) {
		return true
	}
	begun := time.Now()
	w.budget = min(w.budget+begun.Sub(w.at)/logShare, maxLogWait)
	ready := w.poll(w.budget)
	w.at = time.Now()
	w.budget -= w.at.Sub(begun)
	return ready
}

func (w *logWriter) poll(wait time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(w.file.Fd()), Events: unix.POLLOUT}}
	n, err := unix.Poll(poll, int(max(wait, 0).Milliseconds()))
	return err == nil && n == 1 && poll[0].Revents&unix.POLLOUT != 0
}
