package web

import (
	"context"
	"net/http"
	"time"

	"tokend/tokend/verify"
)

// sodarPath is where SODAR's images of iRODS ask whether a user may come in.
const sodarPath = "/irodsbackend/api/auth"

// checkTimeout is how long a check may take: who asks has no deadline.
const checkTimeout = 3 * time.Second

// NewSODAR answers in SODAR's place: 200 if the user of HTTP Basic may come in with the password, which is a
// token, else 401.
func NewSODAR(check func(ctx context.Context, user, secret string) verify.Verdict) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+sodarPath, func(w http.ResponseWriter, r *http.Request) {
		// One who has said all and shuts their side is answered all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), checkTimeout)
		defer cancel()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		user, secret, ok := r.BasicAuth()
		if ok && check(ctx, user, secret).OK() {
			_, _ = w.Write([]byte("Ok\n"))
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="iRODS", charset="UTF-8"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("Unauthorized\n"))
	})
	return mux
}
