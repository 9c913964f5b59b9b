package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"tokend/config"
)

// TestOpenPasswordFileIsWarnedOf, though the password is used.
func TestOpenPasswordFileIsWarnedOf(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "password")
	if err := os.WriteFile(path, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o604: true, 0o602: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, "password"} { // a file, and a credential
			var log bytes.Buffer
			cfg := config.Store{URL: "postgres:///tokend?user=tokend&host=" + dir, PasswordFile: name, Connections: 2} // where no server is
			if _, err := openStore(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry()); err == nil {
				t.Fatal("a database is open that is not there")
			}
			warned := strings.Contains(log.String(), "level=WARN") && strings.Contains(log.String(), "chmod 600 would close it") && strings.Contains(log.String(), path)
			if warned != want || strings.Contains(log.String(), "hunter2") {
				t.Errorf("%s with mode %o: the log says %q", name, mode, log.String())
			}
		}
	}
}

func TestASecretFileHoldsOneLine(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for text, want := range map[string]struct{ secret, refusal string }{
		"hunter2":                        {secret: "hunter2"},
		"hunter2\n":                      {secret: "hunter2"},
		"hunter2\r\n":                    {secret: "hunter2"},
		"hunter 2":                       {secret: "hunter 2"},
		"":                               {refusal: "is empty"},
		"\n":                             {refusal: "is empty"},
		"hunter2\n\n":                    {refusal: "more than a line"},
		"hunter2\x00":                    {refusal: "more than a line"},
		strings.Repeat("h", 4096) + "\n": {secret: strings.Repeat("h", 4096)},
		strings.Repeat("h", 4098):        {refusal: "more than a line"},
	} {
		path := filepath.Join(dir, "password")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, "password"} { // a file, and a credential
			got, err := readSecretFile(name)
			if got != want.secret || (err == nil) != (want.refusal == "") {
				t.Errorf("%.20q as %s: got %.20q, %v", text, name, got, err)
			}
			if err != nil && (!strings.Contains(err.Error(), want.refusal) || strings.Contains(err.Error(), "hunter")) {
				t.Errorf("%.20q: %v", text, err)
			}
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := readSecretFile("password"); err == nil || !strings.Contains(err.Error(), "LoadCredential=password:") {
		t.Errorf("without credentials: %v", err)
	}
	if _, err := readSecretFile(filepath.Join(dir, "missing")); err == nil {
		t.Error("a file that is not there holds a secret")
	}
}

// TestWhatIsNoRegularFileHoldsNoSecret, and hangs nobody who reads it.
func TestWhatIsNoRegularFileHoldsNoSecret(t *testing.T) {
	dir := t.TempDir()
	unwritten, written, link := filepath.Join(dir, "unwritten"), filepath.Join(dir, "written"), filepath.Join(dir, "link")
	for _, err := range []error{unix.Mkfifo(unwritten, 0o600), unix.Mkfifo(written, 0o600), os.Symlink(unwritten, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.OpenFile(written, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.WriteString("hunter2"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	for _, name := range []string{unwritten, "unwritten", written, link, dir, "/dev/null", "/dev/zero"} {
		refused := make(chan error, 1)
		go func() {
			secret, err := readSecretFile(name)
			if err == nil {
				err = errors.New("it holds " + secret)
			}
			refused <- err
		}()
		select {
		case err := <-refused:
			if !strings.Contains(err.Error(), "is no regular file") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it is still read", name)
		}
	}
}
