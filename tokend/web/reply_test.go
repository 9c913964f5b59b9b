package web_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

// TestWhatNeverHappensIsNull, to the letter: programs read this.
func TestWhatNeverHappensIsNull(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	id, hint := made.Token.ID, made.Token.Hint
	if want := made.Secret[len(token.Prefix):][:token.HintLength]; hint != want {
		t.Errorf("the hint is %s, want %s", hint, want)
	}
	token := func(revoked string) string {
		return `{"id":"` + id + `","user":"alice","hint":"` + hint + `","label":"","state":"active",` +
			`"created":"2026-03-04T05:06:07.891234Z","expires":null,"revoked":` + revoked + `,"scheme":"","user_disabled":false,"use":"irods","used":null,"used_by":""}`
	}
	event := func(number, at, action, id, detail string) string {
		return `{"number":` + number + `,"at":"2026-03-04T05:` + at + `:07.891234Z","actor":"` + actor + `","action":"` + action + `","user":"alice","token":"` + id + `","detail":"` + detail + `"}`
	}
	created := event("1", "06", "token.create", id, "expires never")
	f.says(t, "GET "+tokens, "", "["+token("null")+"]")
	f.says(t, "GET "+users, "", `[{"name":"alice","disabled":null,"tokens":1}]`)
	f.says(t, "GET "+audit, "", "["+created+"]")

	f.now = begin.Add(time.Minute)
	f.says(t, "PUT "+users+"/alice", disable, "")
	f.says(t, "GET "+users, "", `[{"name":"alice","disabled":"2026-03-04T05:07:07.891234Z","tokens":1}]`)
	ended := strings.NewReplacer("active", "revoked", "false", "true").Replace(token(`"2026-03-04T05:07:07.891234Z"`))
	ended = strings.TrimSuffix(ended, "}") + `,"revoked_before":`
	f.says(t, "DELETE "+tokens+"/"+id, "", ended+"false}")
	f.now = begin.Add(2 * time.Minute)
	f.says(t, "DELETE "+tokens+"/"+id, "", ended+"true}")
	f.says(t, "DELETE "+tokens+"?user=alice", "", "["+ended+"true}]")
	f.says(t, "POST "+tokens+"/found", `{"secret":"`+made.Secret+`"}`, ended+"true}")
	f.now = begin.Add(time.Minute)
	f.says(t, "PUT "+users+"/alice", enable, "")
	f.says(t, "GET "+users, "", `[{"name":"alice","disabled":null,"tokens":0}]`)
	f.says(t, "GET "+audit, "", "["+strings.Join([]string{
		event("4", "07", "user.enable", "", ""), event("3", "07", "token.revoke", id, ""), event("2", "07", "user.disable", "", ""), created,
	}, ",")+"]")
}

// says fails unless that is the answer, to the letter.
func (f *fixture) says(t *testing.T, request, body, want string) {
	t.Helper()
	same(t, request, strings.TrimSuffix(f.ask(t, request, body).Body.String(), "\n"), want)
}

func TestATokenIsMadeAsAskedFor(t *testing.T) {
	f := newFixture(t, manage.Limits{DefaultExpiry: 7200, MaxExpiry: 7200})
	in := func(d time.Duration) *time.Time { at := begin.Add(d); return &at }
	for _, row := range []struct {
		body string
		want web.Token
	}{
		{`{"user":"alice"}`, web.Token{User: "alice", Expires: in(2 * time.Hour)}},
		{`{"user":"alice","label":"","expiry":""}`, web.Token{User: "alice", Expires: in(2 * time.Hour)}},
		{`{"user":"carol","use":"api"}`, web.Token{User: "carol", Expires: in(2 * time.Hour), Use: "api"}},
		{`{"user":"bob","label":"<Größe> \"1\"","expiry":"1"}`, web.Token{User: "bob", Label: `<Größe> "1"`, Expires: in(time.Hour)}},
	} {
		made := get[web.Created](t, f, "POST "+tokens, row.body)
		if _, err := token.Parse(made.Secret); err != nil || len(made.Token.ID) != 12 {
			t.Errorf("%s: got the ID %q, and a secret that is %v", row.body, made.Token.ID, err)
		}
		row.want.ID, row.want.Hint, row.want.State, row.want.Created = made.Token.ID, made.Token.Hint, token.Active, begin
		row.want.Use = cmp.Or(row.want.Use, "irods")
		same(t, row.body, made.Token, row.want)
		if list := get[[]web.Token](t, f, "GET "+tokens, ""); !slices.ContainsFunc(list, func(t web.Token) bool { return t.ID == row.want.ID }) {
			t.Errorf("%s: not among %v", row.body, list)
		}
	}
}

func TestATokenIsShownUnderTheLimitOfTheSite(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	f.manager.Apply(manage.Limits{MaxExpiry: 3600})
	f.now = begin.Add(2 * time.Hour)
	end := begin.Add(time.Hour)
	made.Token.State, made.Token.Expires = token.Expired, &end
	same(t, "list", get[[]web.Token](t, f, "GET "+tokens, ""), []web.Token{made.Token})
}

func TestAListIsFilteredAndComesInPages(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	var ids []string // oldest first
	for _, user := range []string{"alice", "bob", "alice"} {
		f.now = f.now.Add(time.Second)
		ids = append(ids, f.create(t, user).Token.ID)
	}
	for query, want := range map[string][]string{
		"":                               {ids[2], ids[1], ids[0]},
		"?user=alice":                    {ids[2], ids[0]},
		"?user=nobody":                   {},
		"?limit=2":                       {ids[2], ids[1]},
		"?limit=2&after=" + ids[1]:       {ids[0]},
		"?user=alice&after=" + ids[2]:    {ids[0]},
		"?user=alice&limit=1&after=":     {ids[2]},
		"?user=&limit=0&after=" + ids[2]: {ids[1], ids[0]},
	} {
		listed := []string{}
		for _, t := range get[[]web.Token](t, f, "GET "+tokens+query, "") {
			listed = append(listed, t.ID)
		}
		same(t, query, listed, want)
	}
	newest := fmt.Sprint(get[[]web.Event](t, f, "GET "+audit, "")[0].Number)
	for query, want := range map[string][]string{
		"":                                     {ids[2], ids[1], ids[0]},
		"?user=bob":                            {ids[1]},
		"?user=alice&limit=1":                  {ids[2]},
		"?before=0&limit=2":                    {ids[2], ids[1]},
		"?before=" + newest:                    {ids[1], ids[0]},
		"?user=alice&limit=1&before=" + newest: {ids[0]},
		"?user=&limit=0&before=9223372036854775807": {ids[2], ids[1], ids[0]},
		"?before=1": {},
	} {
		told := []string{}
		for _, e := range get[[]web.Event](t, f, "GET "+audit+query, "") {
			told = append(told, e.Token)
		}
		same(t, "audit"+query, told, want)
	}
}

// TestATokenIsRotated: the other one stays good for the overlap, or is revoked.
func TestATokenIsRotated(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	old := get[web.Created](t, f, "POST "+tokens, `{"user":"alice","label":"laptop","use":"api","expiry":"10"}`).Token
	f.now = begin.Add(time.Hour)
	reply := f.ask(t, "POST "+tokens+"/"+old.ID+"/rotate", `{"overlap":"2"}`)
	var made web.Rotated
	if err := json.Unmarshal(reply.Body.Bytes(), &made); err != nil || reply.Code != http.StatusCreated || reply.Header().Get("Cache-Control") != "no-store" || reply.Header().Get("Location") != tokens+"/"+made.Token.ID {
		t.Fatalf("got %d %v %s, %v", reply.Code, reply.Header(), reply.Body, err)
	}
	if _, err := token.Parse(made.Secret); err != nil {
		t.Error(err)
	}
	end, until := begin.Add(11*time.Hour), begin.Add(3*time.Hour)
	want := web.Token{ID: made.Token.ID, User: "alice", Hint: made.Secret[4:12], Label: "laptop", State: token.Active, Created: f.now, Expires: &end, Use: "api"}
	same(t, "the new one", made.Token, want)
	old.Expires = &until
	same(t, "the old one", made.Old, old)
	again := get[web.Rotated](t, f, "POST "+tokens+"/"+made.Token.ID+"/rotate", `{}`)
	if again.Old.State != token.Revoked || again.Old.ID != made.Token.ID {
		t.Errorf("the old one is %+v", again.Old)
	}
	f.says(t, "GET "+tokens+"?state=active&limit=1&after="+again.Token.ID, "", f.list(t, old))
}

// list is how tokens are answered.
func (f *fixture) list(t *testing.T, all ...web.Token) string {
	t.Helper()
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestWhatWasCreatedBeforeIsRevoked, of one user or of all.
func TestWhatWasCreatedBeforeIsRevoked(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, user := range []string{"alice", "bob", "alice"} {
		f.create(t, user)
		f.now = f.now.Add(time.Hour)
	}
	for _, c := range []struct {
		query string
		want  int
	}{{"&user=alice", 1}, {"", 1}, {"", 0}} {
		before := begin.Add(2 * time.Hour).Format(time.RFC3339Nano)
		if got := get[[]web.EndedToken](t, f, "DELETE "+tokens+"?before="+before+c.query, ""); len(got) != c.want {
			t.Errorf("%q: %+v", c.query, got)
		}
	}
}

func TestUsersAndEventsAreFound(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	first := f.create(t, "alice").Token.ID
	f.create(t, "Malice")
	f.create(t, "bob")
	for query, want := range map[string][]string{"": {"Malice", "alice", "bob"}, "?find=LICE&limit=1&after=Malice": {"alice"}, "?find=x": {}} {
		names := []string{}
		for _, u := range get[[]web.User](t, f, "GET "+users+query, "") {
			names = append(names, u.Name)
		}
		same(t, "users"+query, names, want)
	}
	for query, want := range map[string]int{"?token=" + first: 1, "?action=token.create": 3, "?action=token.revoke": 0, "?since=2026-03-04T05:06:08Z": 0, "?until=2026-03-04T05:06:08Z&user=bob": 1} {
		if got := get[[]web.Event](t, f, "GET "+audit+query, ""); len(got) != want {
			t.Errorf("audit%s: %+v", query, got)
		}
	}
}

func TestNothingIsAnEmptyList(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	for _, request := range []string{"GET " + tokens, "GET " + users, "GET " + audit} {
		f.says(t, request, "", "[]")
	}
}

func TestTheActorLandsInTheAuditTrail(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	for _, row := range []struct{ request, body string }{
		{"DELETE " + tokens + "/" + made.Token.ID, ""},
		{"POST " + tokens, `{"user":"alice"}`},
		{"PUT " + users + "/alice", disable},
		{"DELETE " + tokens + "?user=alice", ""},
	} {
		who := "who asks to " + row.request
		reply := f.askIn(web.WithActor(t.Context(), who), row.request, row.body)
		events := get[[]web.Event](t, f, "GET "+audit+"?limit=1", "")
		if reply.Code >= http.StatusBadRequest || events[0].Actor != who {
			t.Errorf("%s: got %d %s, told of %q", row.request, reply.Code, reply.Body, events[0].Actor)
		}
	}
}

func TestTheDescriptionListsWhatIsServed(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	var description struct {
		OpenAPI string
		Info    struct{ Title, Version string }
		Paths   map[string]map[string]json.RawMessage
	}
	reply := f.askIn(t.Context(), "GET /api/v1/openapi.json", "")
	if err := json.Unmarshal(reply.Body.Bytes(), &description); err != nil {
		t.Fatal(err)
	}
	operations := map[string][]string{}
	for path, item := range description.Paths {
		operations[path] = slices.Sorted(maps.Keys(item))
	}
	same(t, "operations", operations, map[string][]string{
		"/api/v1/tokens":             {"delete", "get", "post"},
		"/api/v1/tokens/{id}":        {"delete"},
		"/api/v1/tokens/{id}/rotate": {"post"},
		"/api/v1/tokens/import":      {"post"},
		"/api/v1/tokens/found":       {"post"},
		"/api/v1/users":              {"get"},
		"/api/v1/users/{name}":       {"put"},
		"/api/v1/audit":              {"get"},
		"/api/v1/cache/rotate-key":   {"post"},
	})
	if description.Info.Title != "tokend" || description.Info.Version != "1.2.3" || !strings.HasPrefix(description.OpenAPI, "3.") {
		t.Errorf("got %q, %+v", description.OpenAPI, description.Info)
	}
}
