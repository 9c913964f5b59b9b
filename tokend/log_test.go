package main

import (
	"bufio"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tokend/config"
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

func TestLogThatNobodyReadsIsNotWaitedFor(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	w := newLogWriter(writer, config.Log{Format: "text"}, prometheus.NewRegistry())
	go w.run()
	line := []byte(strings.Repeat("x", 1023) + "\n")
	written, begun := 0, time.Now()
	const lines = 2000 // a pipe holds 64, the queue 1024
	for range lines {
		if _, err := w.Write(line); err == nil {
			written++
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("%d lines took %s", lines, took)
	}
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
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := w.Write([]byte("again\n")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is written although it is read")
		}
		time.Sleep(time.Millisecond)
	}
	lost := countLost(t, w)
	if err := errors.Join(w.Close(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	<-done
	if len(read) != written+2 {
		t.Errorf("%d lines were read, want %d", len(read), written+2)
	}
	notice := read[written]
	if !strings.HasSuffix(notice, `level=ERROR msg="lines of the log are missing here: they could not be written" lines=`+strconv.Itoa(lost)) || read[written+1] != "again" {
		t.Errorf("after what was written stand %.100q and %.100q; %d are lost", notice, read[written+1], lost)
	}
}

func TestLongLineIsWrittenWhole(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	w := newLogWriter(writer, config.Log{Format: "text"}, prometheus.NewRegistry())
	go w.run()
	line := strings.Repeat("0123456789", 5000) + "\n"
	if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(line), err)
	}
	if got, err := bufio.NewReader(reader).ReadString('\n'); got != line || err != nil {
		t.Errorf("read %d of %d bytes: %v", len(got), len(line), err)
	}
}
