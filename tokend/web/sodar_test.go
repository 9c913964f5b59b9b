package web_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tokend/tokend/verify"
	"tokend/tokend/web"
)

// TestSODARsEndpointAsksForWhatItIsGiven, whatever is in the password.
func TestSODARsEndpointAsksForWhatItIsGiven(t *testing.T) {
	for _, c := range []struct{ user, password string }{
		{"alice@ORG", "token"}, {"alice", "with:a:colon"}, {"alice", ":"}, {"alice", ""}, {"", "token"}, {"alïce", "tökèn"}, {"alice", "NUL\x00"},
	} {
		for _, reason := range []verify.Reason{verify.OK, verify.Unknown, verify.Unavailable} {
			var user, password string
			asked := 0
			handler := web.NewSODAR(func(ctx context.Context, u, p string) verify.Verdict {
				if until, ok := ctx.Deadline(); !ok || time.Until(until) > 3*time.Second { // a PAM script has none
					t.Errorf("it may take until %s", until)
				}
				asked, user, password = asked+1, u, p
				return verify.Verdict{Reason: reason}
			})
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/irodsbackend/api/auth", nil)
			request.SetBasicAuth(c.user, c.password)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			want := http.StatusUnauthorized
			if reason == verify.OK {
				want = http.StatusOK
			}
			if asks := answer.Header().Get("WWW-Authenticate"); (asks == `Basic realm="iRODS", charset="UTF-8"`) != (want == http.StatusUnauthorized) {
				t.Errorf("%d asks for %q", answer.Code, asks)
			}
			said := map[int]string{http.StatusOK: "Ok\n", http.StatusUnauthorized: "Unauthorized\n"}
			if answer.Body.String() != said[want] || answer.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d says %q, and may be kept: %q", answer.Code, answer.Body, answer.Header().Get("Cache-Control"))
			}
			if answer.Code != want || asked != 1 || user != c.user || password != c.password {
				t.Errorf("%+v, %s: %d, asked %d times for %q and %q", c, reason, answer.Code, asked, user, password)
			}
		}
	}
}

// TestSODARsEndpointAnswersWhoHasSaidAll and shuts their side.
func TestSODARsEndpointAnswersWhoHasSaidAll(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(web.NewSODAR(func(ctx context.Context, _, _ string) verify.Verdict {
		select {
		case <-ctx.Done():
			return verify.Verdict{Reason: verify.Unavailable}
		case <-time.After(200 * time.Millisecond):
			return verify.Verdict{Reason: verify.OK}
		}
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /irodsbackend/api/auth HTTP/1.1\r\nHost: sodar\r\nAuthorization: Basic YTpi\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") {
		t.Errorf("got %v, %q", err, answer)
	}
}
