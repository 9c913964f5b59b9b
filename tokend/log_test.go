package main

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tokend/config"
)

func countLost(t *testing.T, w *logWriter) int {
	t.Helper()
	var counted dto.Metric
	if err := w.lost.Write(&counted); err != nil {
		t.Fatal(err)
	}
	return int(counted.GetCounter().GetValue())
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

// TestLinesThatCouldNotBeWrittenAreTold: the disk was full for a while.
func TestLinesThatCouldNotBeWrittenAreTold(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w := newLogWriter(full, config.Log{Format: "json"}, prometheus.NewRegistry())
	go w.run()
	for range 3 {
		if _, err := w.Write([]byte("gone\n")); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w.drain()
	w.file, w.atOnce = file, nil
	if _, err := w.Write([]byte("again\n")); err != nil {
		t.Fatal(err)
	}
	w.drain()
	text, err := os.ReadFile(file.Name())
	if err != nil || !strings.HasSuffix(string(text), `"lines":3}`+"\nagain\n") || countLost(t, w) < 3 {
		t.Errorf("%d are lost, got %q, %v", countLost(t, w), text, err)
	}
}

// TestLineThatWasCutHasItsOwnEnd: the disk was full in the middle of it.
func TestLineThatWasCutHasItsOwnEnd(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w := newLogWriter(full, config.Log{Format: "text"}, prometheus.NewRegistry())
	w.atOnce = func(line []byte) (int, error) { return file.Write(line[:4]) }
	go w.run()
	if _, err := w.Write([]byte("half and half\n")); err != nil {
		t.Fatal(err)
	}
	w.file, w.atOnce = file, nil
	if _, err := w.Write([]byte("again\n")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if got := string(text); err != nil || !strings.HasPrefix(got, "half\ntime=") || !strings.HasSuffix(got, "lines=1\nagain\n") {
		t.Errorf("got %q, %v", got, err)
	}
}
