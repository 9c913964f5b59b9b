package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/web"
)

// gone is a caller who is gone before the answer: what is small is kept in a buffer,
// and the error comes when that is sent.
type gone struct {
	*httptest.ResponseRecorder
	buffered bool
}

func (g gone) Write(text []byte) (int, error) {
	if g.buffered {
		return len(text), nil
	}
	return 0, syscall.EPIPE
}

func (g gone) FlushError() error { return syscall.EPIPE }

func TestAnAnswerThatNobodyTookIsTold(t *testing.T) {
	for _, buffered := range []bool{false, true} {
		f := newFixture(t, manage.Limits{})
		for request, body := range everyOperation(f.create(t, "alice"), f.create(t, "erin")) {
			f.log.Reset()
			f.now = f.now.Add(time.Second)
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequestWithContext(web.WithActor(t.Context(), actor), method, path, strings.NewReader(body))
			f.api.ServeHTTP(gone{httptest.NewRecorder(), buffered}, r)
			want := `level=INFO msg="the caller did not take the answer" method=` + method + ` err="broken pipe"`
			if user := map[bool]string{request == "POST "+tokens: "bob", strings.HasSuffix(request, "/rotate"): "erin"}[true]; user != "" {
				newest := get[[]web.Token](t, f, "GET "+tokens+"?limit=1&user="+user, "")[0].ID
				want = `level=WARN msg="the caller did not take the answer: nobody has the new token's secret, so revoke it" token=` + newest + ` err="broken pipe"`
			}
			if log := f.log.String(); strings.Count(log, want) != 1 || strings.Count(log, "did not take") != 1 {
				t.Errorf("%s: the log lacks %s:\n%s", request, want, log)
			}
		}
	}
}

func TestANewTokenHasAPlace(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	reply := f.ask(t, "POST "+tokens, `{"user":"alice"}`)
	place := reply.Header().Get("Location")
	if ended := f.ask(t, "DELETE "+place, ""); reply.Code != http.StatusCreated || ended.Code != http.StatusOK {
		t.Errorf("%q: got %d and %d", place, reply.Code, ended.Code)
	}
}

func TestARefusalThatNobodyTookIsNotTold(t *testing.T) {
	f := newFixture(t, manage.Limits{})
	r := httptest.NewRequestWithContext(web.WithActor(t.Context(), actor), http.MethodDelete, tokens+"/nosuch", http.NoBody)
	f.api.ServeHTTP(gone{ResponseRecorder: httptest.NewRecorder()}, r)
	if f.log.Len() > 0 {
		t.Errorf("logged %s", &f.log)
	}
}
