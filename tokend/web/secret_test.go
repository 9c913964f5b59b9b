package web_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

// shown is all that the caller gets.
func shown(t *testing.T, reply *httptest.ResponseRecorder) string {
	t.Helper()
	var text strings.Builder
	if err := reply.Result().Write(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// hides fails if the text shows a secret, a part of it behind the hint, or what
// the store finds it by.
func hides(t *testing.T, what, text, secret string) {
	t.Helper()
	parsed, err := token.Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	digest := parsed.Digest()
	parts := []string{digest.String(), base64.StdEncoding.EncodeToString(digest[:]), base64.URLEncoding.EncodeToString(digest[:])}
	const hinted = len(token.Prefix) + token.HintLength
	for i := hinted; i+6 <= len(secret); i++ {
		parts = append(parts, secret[i:i+6])
	}
	for _, part := range parts {
		if strings.Contains(text, part) {
			t.Errorf("%s shows the secret:\n%s", what, strings.ReplaceAll(text, part, "(here)"))
			return
		}
	}
}

// TestATokenInTheWrongPlaceIsNotEchoed: people paste theirs anywhere.
func TestATokenInTheWrongPlaceIsNotEchoed(t *testing.T) {
	const none = ""
	f := newFixture(t, manage.Limits{})
	f.create(t, "alice")
	secret := token.Mint().Reveal()
	for _, pasted := range []string{secret, "x" + secret, secret + "\n", "alice:" + secret, strings.Repeat("x", 50) + secret, strings.Repeat("x", 70) + secret} {
		quoted, err := json.Marshal(pasted)
		if err != nil {
			t.Fatal(err)
		}
		in := func(format string) string { return fmt.Sprintf(format, quoted) }
		at := func(format string) string { return fmt.Sprintf(format, url.PathEscape(pasted)) }
		for _, row := range []struct{ request, body string }{
			{"POST " + tokens, in(`{"user":%s}`)},
			{"POST " + tokens, in(`{"user":"bob","label":%s}`)},
			{"POST " + tokens, in(`{"user":"bob","expiry":%s}`)},
			{"POST " + tokens, in(`{"user":"bob",%s:1}`)},
			{"POST " + tokens, in(`{"user":[%s]}`)},
			{"POST " + tokens, in(`{"user":{%s:1}}`)},
			{"POST " + tokens, in(`{"user":"bob","secret":%s}`)},
			{"POST " + tokens, in(`%s`)},
			{"POST " + tokens, in(`[%s]`)},
			{"POST " + tokens, in(`{%s`)},
			{"POST " + tokens, pasted},
			{"POST " + tokens, in(`{"user":%s,"label":"` + strings.Repeat("x", 16<<10) + `"}`)},
			{"POST " + at(tokens+"?user=%s"), forBob},
			{"POST " + at(tokens+"?%s=bob"), forBob},
			{"POST " + at(tokens+"?%s"), forBob},
			{"GET " + tokens + "?" + url.QueryEscape(pasted) + "=1&" + url.QueryEscape(pasted) + "=2", none},
			{"GET " + at(tokens+"?after=%s"), none},
			{"GET " + at(tokens+"?user=bob&after=%s"), none},
			{"GET " + at(tokens+"?limit=%s"), none},
			{"GET " + at(tokens+"?state=%s"), none},
			{"GET " + at(audit+"?limit=%s"), none},
			{"GET " + at(audit+"?before=%s"), none},
			{"GET " + at(tokens+"/%s"), none},
			{"GET " + at("/%s"), none},
			{"DELETE " + at(tokens+"/%s"), none},
			{"DELETE " + at(tokens+"?user=%s"), none},
			{"POST " + tokens + "/found", in(`{"token":%s}`)},
			{"POST " + tokens + "/found", in(`{"secret":{"secret":%s}}`)},
			{"POST " + at(tokens+"/%s"), none},
			{"PUT " + at(users+"/%s"), disable},
			{"PUT " + users + "/alice", in(`{"disabled":%s}`)},
		} {
			what := strings.ReplaceAll(fmt.Sprintf("%s %.120s", row.request, row.body), secret, "(secret)")
			reply := f.ask(t, row.request, row.body)
			if reply.Code < http.StatusBadRequest || reply.Code >= http.StatusInternalServerError {
				t.Errorf("%s: got %d", what, reply.Code)
			}
			hides(t, what, shown(t, reply), secret)
		}
	}
	hides(t, "the log", f.log.String(), secret)

	f.close(t) // then failures are logged, with what they are about
	for _, request := range []string{"DELETE " + tokens + "/" + secret, "DELETE " + tokens + "?user=alice" + secret, "PUT " + users + "/" + secret} {
		hides(t, request[:10], shown(t, f.ask(t, request, disable)), secret)
	}
	if log := f.log.String(); !strings.Contains(log, "request failed") {
		t.Errorf("no failure is logged: %s", log)
	}
	hides(t, "the log", f.log.String(), secret)
}

func TestATokenGivenForAContentTypeIsNotEchoed(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	secret := token.Mint().Reveal()
	r := httptest.NewRequestWithContext(web.WithActor(t.Context(), actor), http.MethodPost, tokens, strings.NewReader(forBob))
	r.Header.Set("Content-Type", secret)
	reply := httptest.NewRecorder()
	f.api.ServeHTTP(reply, r)
	if reply.Code != http.StatusUnsupportedMediaType {
		t.Errorf("got %d %s", reply.Code, reply.Body)
	}
	hides(t, "the answer", shown(t, reply), secret)
}

func TestAFailureThatTellsOfATokenIsNeitherShownNorLogged(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	made := f.create(t, "alice")
	f.forget = fmt.Errorf("write %q: no connection", made.Secret)
	reply := f.ask(t, "DELETE "+tokens+"/"+made.Token.ID, "")
	for what, text := range map[string]string{"the answer": shown(t, reply), "the log": f.log.String()} {
		hides(t, what, text, made.Secret)
		if !strings.Contains(text, "no connection") {
			t.Errorf("%s does not say what failed: %s", what, text)
		}
	}
}

func TestASecretIsShownOnceToTheOneWhoMadeIt(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	reply := f.ask(t, "POST "+tokens, `{"user":"alice","label":"laptop"}`)
	var made web.Created
	if err := json.Unmarshal(reply.Body.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	text := shown(t, reply)
	if n := strings.Count(text, made.Secret); n != 1 {
		t.Errorf("the answer has the secret %d times", n)
	}
	if got := reply.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %q", got)
	}
	hides(t, "but for the secret the answer", strings.ReplaceAll(text, made.Secret, ""), made.Secret)
	for _, request := range []string{"GET " + tokens, "GET " + users, "GET " + audit} {
		hides(t, request, shown(t, f.ask(t, request, "")), made.Secret)
	}
	for _, request := range []string{"POST " + tokens + "/found", "DELETE " + tokens + "/" + made.Token.ID, "DELETE " + tokens + "?user=alice"} {
		body := ""
		if strings.HasPrefix(request, "POST") {
			body = `{"secret":"` + made.Secret + `"}`
		}
		reply := f.ask(t, request, body)
		if reply.Code != http.StatusOK || !strings.Contains(reply.Body.String(), made.Token.Hint) {
			t.Errorf("%s: got %d %s", request, reply.Code, reply.Body)
		}
		hides(t, request, shown(t, reply), made.Secret)
	}
	f.close(t)
	f.ask(t, "POST "+tokens+"/found", `{"secret":"`+made.Secret+`"}`)
	hides(t, "the log", f.log.String(), made.Secret)
}
