package web

import (
	"bytes"
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// tellUntaken holds each reply back until it is whole, and tells the log of one that
// its caller did not take: of a new token, nobody has the secret then.
func tellUntaken(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := &heldReply{ResponseWriter: w, header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(held, r)
		maps.Copy(w.Header(), held.header)
		if held.body.Len() > 0 {
			w.Header().Set("Content-Length", strconv.Itoa(held.body.Len()))
		}
		w.WriteHeader(held.status)
		_, err := held.body.WriteTo(w)
		if err = cmp.Or(err, http.NewResponseController(w).Flush()); err == nil || held.status >= http.StatusBadRequest {
			return // the log knows of what failed
		}
		if made, ok := strings.CutPrefix(held.header.Get("Location"), tokensPath+"/"); ok {
			log.WarnContext(r.Context(), "the caller did not take the answer: nobody has the new token's secret, so revoke it", "token", made, "err", err)
			return
		}
		log.InfoContext(r.Context(), "the caller did not take the answer", "method", r.Method, "err", err)
	})
}

// heldReply is a reply that is not sent yet.
type heldReply struct {
	http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldReply) Header() http.Header            { return h.header }
func (h *heldReply) WriteHeader(status int)         { h.status = status }
func (h *heldReply) Write(text []byte) (int, error) { return h.body.Write(text) }

// Unwrap lets deadlines be set on the connection.
func (h *heldReply) Unwrap() http.ResponseWriter { return h.ResponseWriter }
