package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"tokend/tokend/manage"
	"tokend/tokend/store/sqlite"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

// actor makes all requests here, unless a test says otherwise.
const actor = "uid=1000(jane)"

// begin is when a fixture's clock stands.
var begin = time.Date(2026, time.March, 4, 5, 6, 7, 891_234_000, time.UTC)

// fixture is the API over a real store.
type fixture struct {
	api     http.Handler
	manager *manage.Manager
	store   *sqlite.Store
	log     bytes.Buffer
	now     time.Time
	forget  error // what forgetting ends with
}

func newFixture(t *testing.T, limits manage.Limits) *fixture {
	t.Helper()
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "tokend.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{store: store, now: begin}
	log := slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.manager = manage.New(manage.Config{
		Store: store, Limits: limits, Logger: log, Now: func() time.Time { return f.now },
		Forget: func(context.Context, ...token.Digest) error { return f.forget },
	})
	f.api = web.NewAPI(web.Config{Manager: f.manager, Version: "1.2.3", Logger: log})
	return f
}

// ask makes one request, "METHOD /path", in the actor's name.
func (f *fixture) ask(t *testing.T, request, body string) *httptest.ResponseRecorder {
	t.Helper()
	return f.askIn(web.WithActor(t.Context(), actor), request, body)
}

func (f *fixture) askIn(ctx context.Context, request, body string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(request, " ")
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	reply := httptest.NewRecorder()
	f.api.ServeHTTP(reply, r)
	return reply
}

// get makes a request that succeeds, and reads its answer.
func get[T any](t *testing.T, f *fixture, request, body string) T {
	t.Helper()
	var answer T
	reply := f.ask(t, request, body)
	if reply.Code >= http.StatusBadRequest {
		t.Fatalf("%s %s: got %d %s", request, body, reply.Code, reply.Body)
	}
	if err := json.Unmarshal(reply.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %v: %s", request, err, reply.Body)
	}
	return answer
}

// create makes a token for a user.
func (f *fixture) create(t *testing.T, user string) web.Created {
	t.Helper()
	return get[web.Created](t, f, "POST /api/v1/tokens", fmt.Sprintf(`{"user":%q}`, user))
}

func (f *fixture) close(t *testing.T) {
	t.Helper()
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// problem reads a refusal: its sentence, and the details that it has.
func problem(reply *httptest.ResponseRecorder) (string, error) {
	if kind := reply.Header().Get("Content-Type"); kind != "application/problem+json" {
		return "", fmt.Errorf("the content is %q: %s", kind, reply.Body)
	}
	var p huma.ErrorModel
	if err := json.Unmarshal(reply.Body.Bytes(), &p); err != nil {
		return "", fmt.Errorf("%w: %s", err, reply.Body)
	}
	if p.Status != reply.Code || p.Title != http.StatusText(reply.Code) || p.Detail == "" {
		return "", fmt.Errorf("the problem of a %d is %s", reply.Code, reply.Body)
	}
	text := p.Detail
	for _, d := range p.Errors {
		if d.Value != nil {
			return "", errors.New("what was sent is in the answer")
		}
		text += "; " + d.Message + " (" + d.Location + ")"
	}
	return text, nil
}

// same fails if got is not want.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
