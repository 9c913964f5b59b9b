package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/e2e/servers"
)

// target is an empty database, and the site's new configuration, which names it.
func target(t *testing.T, site *rig.Site) (server *servers.PostgreSQL, database, config string) {
	t.Helper()
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	if database, err = server.NewDatabase(t.Context(), "template0"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(site.Config())
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "sqlite:"+oldDatabase(site), server.URL(database), 1)
	return server, database, write(t, site, "new.toml", changed)
}

func oldDatabase(site *rig.Site) string { return site.Path("state/tokend.db") }

func migration(t *testing.T, site *rig.Site, config string, more ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"migrate", "sqlite-to-postgres", "--config", config, "--from", oldDatabase(site)}, more...)
	return exec.CommandContext(t.Context(), site.Tokend(), args...)
}

// migrate runs it to its end, and returns what it said on both outputs.
func migrate(t *testing.T, site *rig.Site, config string, more ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := migration(t, site, config, more...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestAllIsTheSameAfterTheMigration: the daemon was stopped, or killed and has left its
// last changes in the -wal. The database has a password.
func TestAllIsTheSameAfterTheMigration(t *testing.T) {
	for name, end := range map[string]func(*rig.Daemon) error{"stopped": (*rig.Daemon).Stop, "killed": (*rig.Daemon).Kill} {
		t.Run(name, func(t *testing.T) {
			site := newSite(t)
			daemon, err := site.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			made := createTokens(t, site)
			tokend(t, site, "", "token", "create", "--user", "dave", "--label", `Ä "€" 🔑`)
			listings := [][]string{{"audit", "--all", "--json"}, {"token", "list", "--json"}, {"user", "list", "--json"}}
			var before []string
			for _, l := range listings {
				before = append(before, tokend(t, site, "", l...))
			}
			server, database, config := target(t, site)
			if _, said, status := migrate(t, site, config); status != 1 || !strings.Contains(said, "another tokend uses it (pid ") {
				t.Errorf("while the daemon runs, it ends with %d and says %q", status, said)
			}
			if err := end(daemon); err != nil {
				t.Fatal(err)
			}
			withPassword(t, server, database, site, config)

			var dry, done struct {
				Users, Tokens, Events int
				SHA256                string
				DryRun                bool `json:"dry_run"`
			}
			out, said, status := migrate(t, site, config, "--json", "--dry-run")
			if err := json.Unmarshal([]byte(out), &dry); err != nil || status != 0 || said != "" || !dry.DryRun {
				t.Fatalf("dry: %d, %v, %q, %q", status, err, out, said)
			}
			out, said, status = migrate(t, site, config, "--json")
			if err := json.Unmarshal([]byte(out), &done); err != nil || status != 0 || said != "" {
				t.Fatalf("%d, %v, %q, %q", status, err, out, said)
			}
			if dry.DryRun = false; done != dry || done.Users != 4 || done.Tokens != 6 || done.Events != 8 || len(done.SHA256) != 64 {
				t.Errorf("it moves %+v, and would move %+v", done, dry)
			}
			if out, said, status = migrate(t, site, config); status != 1 || !strings.Contains(said, "if this one was migrated to before, there is nothing left to do") {
				t.Errorf("a second time: %d, %q, %q", status, out, said)
			}

			if err := os.Rename(config, site.Config()); err != nil {
				t.Fatal(err)
			}
			start(t, site)
			for i, l := range listings {
				if after := tokend(t, site, "", l...); after != before[i] {
					t.Errorf("%s: before\n%s\nafter\n%s", l, before[i], after)
				}
			}
			for _, c := range []struct{ user, secret, reason string }{
				{"alice", made.good, ""}, {"bob", made.bobs, ""}, {"bob", made.good, "wrong-user"},
				{"alice", made.expired, "expired"}, {"alice", made.revoked, "revoked"}, {"carol", made.disabled, "user-disabled"},
			} {
				answer, err := site.AskAsIRODS(t.Context(), c.user, c.secret)
				if err != nil || answer.OK() != (c.reason == "") || c.reason != "" && lastReason(t, site) != c.reason {
					t.Errorf("%+v: %+v, %s, %v", c, answer, lastReason(t, site), err)
				}
			}
			create(t, site, "alice", "never")
			if trail := tokend(t, site, "", "audit", "--limit", "1", "--json"); !strings.Contains(trail, `"number": 9,`) {
				t.Errorf("the trail goes on with %s", trail)
			}
		})
	}
}

// withPassword has the database belong to a role whose password is in a file.
func withPassword(t *testing.T, server *servers.PostgreSQL, database string, site *rig.Site, config string) {
	t.Helper()
	for _, sql := range []string{
		`DROP ROLE IF EXISTS ` + servers.WithPassword,
		`CREATE ROLE ` + servers.WithPassword + ` LOGIN PASSWORD 'hunter2'`,
		`ALTER DATABASE ` + database + ` OWNER TO ` + servers.WithPassword,
	} {
		if err := server.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := server.DropDatabase(context.Background(), database); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), server.URL(database), server.URLAs(servers.WithPassword, database), 1)
	file := write(t, site, "password", "hunter2\n")
	write(t, site, "new.toml", strings.Replace(changed, "[store]\n", "[store]\npassword_file = \""+file+"\"\n", 1))
}

// TestMigrationTellsPeopleWhatItDid, and on a terminal also how far it is.
func TestMigrationTellsPeopleWhatItDid(t *testing.T) {
	site := migratable(t)
	_, _, config := target(t, site)
	out, said, status := migrate(t, site, config, "--dry-run")
	if status != 0 || said != "" || !strings.HasPrefix(out, "would move 1 user, 1 token and 1 audit entry from "+oldDatabase(site)+" to database ") || !strings.HasSuffix(out, "; nothing was changed\n") {
		t.Errorf("dry: %d, %q, %q", status, out, said)
	}
	cmd := exec.CommandContext(t.Context(), "script", "-qefc", migration(t, site, config).String(), os.DevNull)
	screen, err := cmd.Output()
	for _, want := range []string{"copying  [", "%\r\x1b[K", "moved 1 user, 1 token and 1 audit entry from " + oldDatabase(site), "Start the daemon with the new configuration"} {
		if err != nil || !strings.Contains(string(screen), want) {
			t.Errorf("%v: the screen does not show %q: %q", err, want, screen)
		}
	}
}

// migratable is a site with a token, whose daemon was stopped.
func migratable(t *testing.T) *rig.Site {
	t.Helper()
	site := newSite(t)
	daemon, err := site.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	create(t, site, "alice", "never")
	if err := daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	return site
}

// TestMigrationWhoseCommitIsNotAnsweredSaysHowToFindOut, and so it can be found out.
func TestMigrationWhoseCommitIsNotAnsweredSaysHowToFindOut(t *testing.T) {
	site := migratable(t)
	server, database, direct := target(t, site)
	proxy := startProxy(t, "unix", socketOf(server))
	text, err := os.ReadFile(direct)
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, site, "proxy.toml", strings.Replace(string(text), server.URL(database), "postgres://tokend@"+proxy.Addr()+"/"+database+"?sslmode=disable", 1))
	var copied atomic.Bool
	proxy.Delay(func(fromClient bool, chunk []byte) time.Duration {
		switch {
		case fromClient && bytes.Contains(bytes.ToLower(chunk), []byte("copy ")):
			copied.Store(true)
		case !fromClient && copied.Load() && bytes.Contains(chunk, []byte("COMMIT")):
			go proxy.Cut()
			return time.Hour
		}
		return 0
	})
	if _, said, status := migrate(t, site, config); status != 1 || !strings.Contains(said, "it is not known whether it was done") || strings.Contains(said, "nothing was moved") ||
		!strings.Contains(said, "the same with --dry-run tells: it is refused if all was moved, and nothing was if not") {
		t.Errorf("it ends with %d and says %q", status, said)
	}
	if _, said, status := migrate(t, site, direct, "--dry-run"); status != 1 || !strings.Contains(said, "it has users, tokens or an audit trail already") {
		t.Errorf("--dry-run ends with %d and says %q", status, said)
	}
}

// TestInterruptedMigrationMovesNothing, and can be done again.
func TestInterruptedMigrationMovesNothing(t *testing.T) {
	site := migratable(t)
	server, database, config := target(t, site)
	if err := os.Rename(config, site.Config()); err != nil {
		t.Fatal(err)
	}
	daemon, err := site.Start(t.Context()) // makes the tables
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), server.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	asleep := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			var n int
			err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`).Scan(&n)
			if err == nil && n == want {
				return
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%d connections are in the trigger, want %d (%v)", n, want, err)
			}
		}
	}
	exec(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
		CREATE TRIGGER slow BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION slow()`)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		var out, errs strings.Builder
		cmd := migration(t, site, site.Config())
		cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$@"`, "sh"}, cmd.Args...) // as by nohup
		cmd.Path = "/bin/sh"
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		asleep(1)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if _, said, status := migrate(t, site, site.Config()); status != 1 || !strings.Contains(said, "another tokend uses it") {
			t.Errorf("a second migration at once ends with %d and says %q", status, said)
		}
		asleep(1)
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the status tells
		if status := cmd.ProcessState.ExitCode(); status != 1 || out.String() != "" || errs.String() != "tokend: interrupted: nothing was moved\n" {
			t.Errorf("%s: it ends with %d and says %q, %q", s, status, out.String(), errs.String())
		}
		asleep(0) // the server has noticed
	}
	exec(`DROP TRIGGER slow ON tokens`)
	if out, said, status := migrate(t, site, site.Config()); status != 0 || !strings.HasPrefix(out, "moved 1 user, 1 token and 1 audit entry ") {
		t.Errorf("afterwards it ends with %d and says %q, %q", status, out, said)
	}
}
