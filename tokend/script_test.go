package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tokend/tokend/e2e/rig"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

// TestMain lets the test's own program be tokend: with the race detector, and
// built once.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tokend": main})
}

// TestScript runs testdata/script: tokend as its users type it. Beside what
// testscript offers, a script has
//
//	up                run the daemon until it answers; at the end of the script it must end cleanly
//	down              end it as the service manager does: it must exit with 0
//	fill N            create N tokens, one for a user
//	output FILE       keep the last standard output, without the line's end
//	secretless FILE   no token may be in the file, or in stdout or stderr
//
// and the variables CONFIG, ADMIN, AUTH, LOG and STATE: paths of the daemon's; SHIPPED,
// the configuration that is shipped; and LONG, the longest label.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": up, "down": down, "fill": fill, "output": output, "secretless": secretless,
		},
	})
}

type siteKey struct{}

// site is what a script's daemon runs in.
type site struct {
	*rig.Site
	daemon *rig.Daemon
}

func setUp(env *testscript.Env) error {
	made, err := rig.NewSite()
	if err != nil {
		return err
	}
	s := &site{Site: made}
	env.Values[siteKey{}] = s
	env.Defer(func() {
		if s.daemon != nil {
			if err := s.daemon.Stop(); err != nil {
				panic(err)
			}
		}
		if err := made.Close(); err != nil {
			panic(err)
		}
	})
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The program goes by its name, see TestMain.
	if err := os.Symlink(self, made.Tokend()); err != nil {
		return err
	}
	folder, err := os.Getwd()
	if err != nil {
		return err
	}
	env.Setenv("CONFIG", made.Config())
	env.Setenv("ADMIN", made.AdminSocket())
	env.Setenv("AUTH", made.AuthSocket())
	env.Setenv("LOG", made.Log())
	env.Setenv("STATE", made.Path("state/tokend.db"))
	env.Setenv("SHIPPED", filepath.Join(folder, "../config/tokend.toml"))
	env.Setenv("LONG", strings.Repeat("x", token.MaxLabel))
	env.Setenv("TZ", "UTC")
	env.Setenv("GORACE", "halt_on_error=1 atexit_sleep_ms=0")
	return made.WriteConfig("")
}

func of(ts *testscript.TestScript) *site {
	s, ok := ts.Value(siteKey{}).(*site)
	if !ok {
		ts.Fatalf("the script has no site")
	}
	return s
}

func up(ts *testscript.TestScript, _ bool, _ []string) {
	s := of(ts)
	daemon, err := s.Start(context.Background())
	ts.Check(err)
	s.daemon = daemon
}

func down(ts *testscript.TestScript, _ bool, _ []string) {
	s := of(ts)
	ts.Check(s.daemon.Stop())
	s.daemon = nil
}

func fill(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := dial(of(ts).AdminSocket())
	for i := range n {
		ts.Check(c.call(context.Background(), http.MethodPost, "/api/v1/tokens", nil, web.NewToken{User: fmt.Sprint("user", i)}, nil))
	}
}

func output(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.TrimSuffix(ts.ReadFile("stdout"), "\n")
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

var secret = regexp.MustCompile(`irt_[0-9A-Za-z]{38}`)

func secretless(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range append([]string{"stdout", "stderr"}, args...) {
		if found := secret.FindString(ts.ReadFile(name)); found != "" {
			ts.Fatalf("%s has a token: %s", name, found)
		}
	}
}
