package web_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

const (
	tokens  = "/api/v1/tokens"
	users   = "/api/v1/users"
	audit   = "/api/v1/audit"
	forBob  = `{"user":"bob"}`
	disable = `{"disabled":true}`
	enable  = `{"disabled":false}`
)

func TestWhatSucceedsIsAnsweredAsDocumented(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	for _, row := range []struct {
		request, body string
		status        int
	}{
		{"POST " + tokens, forBob, http.StatusCreated},
		{"POST " + tokens, `{"user":"bob","label":"laptop","expiry":"30d"}`, http.StatusCreated},
		{"GET " + tokens, "", http.StatusOK},
		{"GET " + tokens + "?user=alice&limit=1", "", http.StatusOK},
		{"GET " + tokens + "?limit=0", "", http.StatusOK},
		{"GET " + tokens + "?limit=1000&after=" + made.Token.ID, "", http.StatusOK},
		{"GET " + users, "", http.StatusOK},
		{"GET " + audit + "?user=alice&limit=1000&before=1", "", http.StatusOK},
		{"PUT " + users + "/alice", disable, http.StatusOK},
		{"PUT " + users + "/alice", enable, http.StatusOK},
		{"POST " + tokens + "/found", `{"secret":"` + made.Secret + `"}`, http.StatusOK},
		{"DELETE " + tokens + "/" + made.Token.ID, "", http.StatusOK},
		{"DELETE " + tokens + "?user=bob", "", http.StatusOK},
		{"DELETE " + tokens + "?user=bob", "", http.StatusOK},
	} {
		reply := f.ask(t, row.request, row.body)
		if reply.Code != row.status {
			t.Errorf("%s %s: got %d %s, want %d", row.request, row.body, reply.Code, reply.Body, row.status)
		}
		if kind := reply.Header().Get("Content-Type"); reply.Body.Len() > 0 && kind != "application/json" {
			t.Errorf("%s: the content is %q", row.request, kind)
		}
	}
}

func TestWhatIsRefusedIsAnsweredWithTheRemedy(t *testing.T) {
	const (
		absent, conflict, invalid = http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity
		malformed, large, media   = http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType
	)
	f := newFixture(t, manage.Limits{MaxPerUser: 1, DefaultExpiry: 3600, MaxExpiry: 3600})
	f.create(t, "alice")
	f.create(t, "carol")
	f.ask(t, "PUT "+users+"/carol", disable)
	for _, row := range []struct {
		request, body string
		status        int
		says          string
	}{
		{"POST " + tokens, `{"user":"alice"}`, conflict, "too many tokens: 1 are active, 1 are allowed; revoke some first"},
		{"POST " + tokens, `{"user":"carol"}`, conflict, "carol gets no token before the user is enabled again"},
		{"POST " + tokens, `{"user":""}`, invalid, "the user name is empty"},
		{"POST " + tokens, `{"user":"bob#zone"}`, invalid, "without #zone"},
		{"POST " + tokens, `{"user":"bob","label":"a\nb"}`, invalid, "leave it out"},
		{"POST " + tokens, `{"user":"bob","expiry":"1.5"}`, invalid, "write hours (24), a duration (90m, 36h, 30d, 2w), or never"},
		{"POST " + tokens, `{"user":"bob","expiry":"2"}`, invalid, "at most 1h"},
		{"POST " + tokens, `{}`, invalid, "expected required property user to be present (body)"},
		{"POST " + tokens, `{"user":7}`, invalid, "expected string (body.user)"},
		{"POST " + tokens, `{"user":null}`, invalid, "expected string (body.user)"},
		{"POST " + tokens, `{"user":"bob","expires":"1h"}`, invalid, "unexpected property (body.expires)"},
		{"POST " + tokens, `["bob"]`, invalid, "expected object (body)"},
		{"POST " + tokens, `{"user":`, malformed, "unexpected end of JSON input (body)"},
		{"POST " + tokens, forBob + forBob, malformed, "invalid character '{' after top-level value (body)"},
		{"POST " + tokens, ``, malformed, "request body is required"},
		{"POST " + tokens, `{"user":"` + strings.Repeat("x", 16<<10) + `"}`, large, "limit=16384 bytes"},
		{"POST " + tokens + "?user=bob", forBob, invalid, "unknown query parameter (query.user)"},

		{"GET " + tokens + "?page=2", "", invalid, "unknown query parameter (query.page)"},
		{"GET " + tokens + "?limit=1001", "", invalid, "expected number <= 1000 (query.limit)"},
		{"GET " + tokens + "?limit=-1", "", invalid, "expected number >= 0 (query.limit)"},
		{"GET " + tokens + "?limit=all", "", invalid, "invalid integer (query.limit)"},
		{"GET " + tokens + "?after=nosuchtoken1", "", absent, `no token with the ID "nosuchtoken1"`},
		{"GET " + tokens + "?state=revoked", "", invalid, "expected value to be one of \"active\" (query.state)"},
		{"GET " + users + "?limit=1001", "", invalid, "expected number <= 1000 (query.limit)"},
		{"GET " + users + "?page=1", "", invalid, "unknown query parameter (query.page)"},
		{"GET " + audit + "?since=yesterday", "", invalid, "(query.since)"},
		{"POST " + tokens, `{"user":"bob","use":"all"}`, invalid, "expected value to be one of \"irods, api\" (body.use)"},
		{"POST " + tokens + "/nosuchtoken1/rotate", `{}`, absent, `no token has the ID "nosuchtoken1"`},
		{"POST " + tokens + "/nosuchtoken1/rotate", `{"overlap":"8d"}`, invalid, "an overlap of 8d is more than 7d"},
		{"GET " + audit + "?limit=1001", "", invalid, "expected number <= 1000 (query.limit)"},
		{"GET " + audit + "?before=-1", "", invalid, "expected number >= 0 (query.before)"},
		{"GET " + audit + "?before=9223372036854775808", "", invalid, "invalid integer (query.before)"},

		{"DELETE " + tokens + "/nosuchtoken1", "", absent, `no token has the ID "nosuchtoken1"; the list of tokens shows the IDs`},
		{"DELETE " + tokens, "", invalid, "the user name is empty"},
		{"DELETE " + tokens + "?user=", "", invalid, `the query parameter "user" is empty`},
		{"DELETE " + tokens + "?user=&before=2026-01-01T00:00:00Z", "", invalid, `the query parameter "user" is empty`},
		{"DELETE " + tokens + "?before=", "", invalid, `the query parameter "before" is empty`},
		{"DELETE " + tokens + "?before=2026-03-05T00:00:00Z", "", invalid, "the time lies in the future"},
		{"DELETE " + tokens + "?before=2026-03-01", "", invalid, "(query.before)"},
		{"DELETE " + tokens + "?user=alice&user=bob", "", invalid, `the query parameter "user" is given 2 times: once is right`},
		{"DELETE " + tokens + "?user=alice&user=%zz", "", invalid, "the query is badly escaped"},
		{"GET " + tokens + "?user=alice%", "", invalid, "the query is badly escaped: a % stands as %25"},
		{"GET " + tokens + "?user=alice;user=bob", "", invalid, "a ; as %3B"},
		{"DELETE " + tokens + "?user=bob%23zone", "", invalid, "without #zone"},
		{"DELETE " + tokens + "?user=nobody", "", absent, "a user is known from the first token on"},
		{"POST " + tokens + "/found", `{"secret":"swordfish"}`, invalid, "it does not begin with irt_"},
		{"POST " + tokens + "/found", `{"secret":"` + token.Mint().Reveal() + `"}`, absent, "no token has this secret"},
		{"POST " + tokens + "/found", `{}`, invalid, "expected required property secret to be present (body)"},

		{"PUT " + users + "/nobody", disable, absent, "a user is known from the first token on"},
		{"PUT " + users + "/bob%23zone", disable, invalid, "without #zone"},
		{"PUT " + users + "/bob%2Fzone", disable, invalid, "is no iRODS user name"},
		{"PUT " + users + "/alice", `{}`, invalid, "expected required property disabled to be present (body)"},
		{"PUT " + users + "/alice", `{"disabled":null}`, invalid, "expected boolean (body.disabled)"},
		{"PUT " + users + "/alice", `{"disabled":"yes"}`, invalid, "expected boolean (body.disabled)"},
	} {
		reply := f.ask(t, row.request, row.body)
		said, err := problem(reply)
		if err != nil || reply.Code != row.status || !strings.Contains(said, row.says) {
			t.Errorf("%s %.80s: got %d, %v, %s; want %d, %s", row.request, row.body, reply.Code, err, said, row.status, row.says)
		}
	}
	if strings.Contains(f.log.String(), "ERROR") {
		t.Errorf("a refusal is logged as an error: %s", f.log.String())
	}
}

func TestWhatDoesNotExistIsNotServed(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, row := range []struct {
		request string
		status  int
		allow   string
	}{
		{"GET /", http.StatusNotFound, ""},
		{"GET /docs", http.StatusNotFound, ""},
		{"GET /schemas/Token.json", http.StatusNotFound, ""},
		{"GET /api/v1", http.StatusNotFound, ""},
		{"GET /api/v2/tokens", http.StatusNotFound, ""},
		{"DELETE " + tokens + "/", http.StatusNotFound, ""},
		{"PUT " + users + "/", http.StatusNotFound, ""},
		{"PUT " + users + "/alice/tokens", http.StatusNotFound, ""},
		{"PATCH " + tokens, http.StatusMethodNotAllowed, "DELETE, GET, HEAD, POST"},
		{"POST " + tokens + "/someid", http.StatusMethodNotAllowed, "DELETE"},
		{"GET " + tokens + "/someid", http.StatusMethodNotAllowed, "DELETE"},
		{"DELETE " + users + "/alice", http.StatusMethodNotAllowed, "PUT"},
		{"DELETE " + audit, http.StatusMethodNotAllowed, "GET, HEAD"},
	} {
		reply := f.ask(t, row.request, "")
		if allow := reply.Header().Get("Allow"); reply.Code != row.status || allow != row.allow {
			t.Errorf("%s: got %d, Allow: %q; want %d, %q", row.request, reply.Code, allow, row.status, row.allow)
		}
	}
}

func TestWhoIsNotKnownMayNotAsk(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made, other := f.create(t, "alice"), f.create(t, "erin")
	before := f.ask(t, "GET "+audit, "").Body.String()
	for request, body := range everyOperation(made, other) {
		for _, ctx := range []context.Context{t.Context(), web.WithActor(t.Context(), "")} {
			reply := f.askIn(ctx, request, body)
			if said, err := problem(reply); err != nil || reply.Code != http.StatusUnauthorized || said != "nobody is known to be asking" {
				t.Errorf("%s: got %d, %v, %s", request, reply.Code, err, said)
			}
		}
	}
	same(t, "audit trail", f.ask(t, "GET "+audit, "").Body.String(), before)
}

// everyOperation is a request of each, which succeeds after the token was made.
func everyOperation(made, other web.Created) map[string]string {
	return map[string]string{
		"POST " + tokens:                                    forBob,
		"GET " + tokens:                                     "",
		"DELETE " + tokens + "/" + made.Token.ID:            "",
		"DELETE " + tokens + "?user=alice":                  "",
		"POST " + tokens + "/found":                         `{"secret":"` + made.Secret + `"}`,
		"POST " + tokens + "/" + other.Token.ID + "/rotate": `{}`,
		"GET " + users:                                      "",
		"PUT " + users + "/alice":                           disable,
		"GET " + audit:                                      "",
	}
}

func TestWhatTheStoreFailsAtIsAnsweredAndLogged(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made, other := f.create(t, "alice"), f.create(t, "erin")
	f.close(t)
	whose := map[string]string{
		"POST " + tokens:                                    "bob",
		"DELETE " + tokens + "/" + made.Token.ID:            made.Token.ID,
		"POST " + tokens + "/" + other.Token.ID + "/rotate": other.Token.ID,
		"DELETE " + tokens + "?user=alice":                  "alice",
		"PUT " + users + "/alice":                           "alice",
	}
	for request, body := range everyOperation(made, other) {
		f.log.Reset()
		reply := f.ask(t, request, body)
		said, err := problem(reply)
		if err != nil || reply.Code != http.StatusInternalServerError || !strings.Contains(said, "database is closed") {
			t.Errorf("%s: got %d, %v, %s", request, reply.Code, err, said)
		}
		about := cmp.Or(whose[request], `""`)
		for _, words := range []string{`level=ERROR msg="request failed" request="`, " about=" + about + ` by="` + actor + `" err="` + said} {
			if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, words) {
				t.Errorf("%s: logged %s, want %s", request, log, words)
			}
		}
	}
}

// TestWhatCannotBeDoneNowMayBeTriedAgain: by its status, too.
func TestWhatCannotBeDoneNowMayBeTriedAgain(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	f.forget = fmt.Errorf("somewhere: %w", token.NotNowError("the disk is full"))
	made := f.create(t, "alice")
	f.log.Reset()
	reply := f.ask(t, "DELETE "+tokens+"/"+made.Token.ID, "")
	if said, err := problem(reply); err != nil || reply.Code != http.StatusServiceUnavailable || !strings.Contains(said, "somewhere: the disk is full") || !strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("got %d, %v, %s; logged %s", reply.Code, err, said, f.log.String())
	}
}

func TestAChangeThatIsNotForgottenIsNoSuccess(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	f.forget = errors.New("the cache is broken")
	for request, body := range map[string]string{
		"DELETE " + tokens + "/" + made.Token.ID: "",
		"DELETE " + tokens + "?user=alice":       "",
		"POST " + tokens + "/found":              `{"secret":"` + made.Secret + `"}`,
		"PUT " + users + "/alice":                disable,
	} {
		reply := f.ask(t, request, body)
		const want = "the change is kept, but old answers may be believed for a while: the cache is broken"
		if said, err := problem(reply); err != nil || reply.Code != http.StatusInternalServerError || said != want {
			t.Errorf("%s: got %d, %v, %s", request, reply.Code, err, said)
		}
	}
}

func TestACallerWhoGivesUpIsNoError(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made, other := f.create(t, "alice"), f.create(t, "erin")
	before := f.ask(t, "GET "+audit, "").Body.String()
	ctx, cancel := context.WithCancel(web.WithActor(t.Context(), actor))
	cancel()
	for request, body := range everyOperation(made, other) {
		f.log.Reset()
		f.askIn(ctx, request, body)
		if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `level=INFO msg="the caller did not wait for the answer"`) {
			t.Errorf("%s: logged %s", request, log)
		}
	}
	same(t, "audit trail", f.ask(t, "GET "+audit, "").Body.String(), before)
}
