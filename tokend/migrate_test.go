package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMigrationAsksForTheNewConfiguration, where it is given none or the old one.
func TestMigrationAsksForTheNewConfiguration(t *testing.T) {
	old, none := filepath.Join(t.TempDir(), "tokend.toml"), filepath.Join(t.TempDir(), "none.toml")
	if err := os.WriteFile(old, []byte("[store]\nurl = 'sqlite:/var/lib/tokend/tokend.db'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = " is no PostgreSQL database: write postgres://user@host/database there, or name the new configuration with --config"
	for file, want := range map[string]string{old: "[store] url in " + old + want, none: "[store] url in " + none + ", which is not there," + want} {
		cmd := newMigrate()
		cmd.SetArgs([]string{"sqlite-to-postgres", "--config", file})
		cmd.SetOut(new(bytes.Buffer))
		cmd.SetErr(new(bytes.Buffer))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}
