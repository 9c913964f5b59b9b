// Package web carries the management of tokens over HTTP: for now the API, which
// the admin socket serves to the command line. What it may do is manage's
// matter; who is asking is settled by the server that it is mounted in.
package web

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// Config is what the API is made of.
type Config struct {
	Manager *manage.Manager
	Version string // of tokend, as the API description tells it
	Logger  *slog.Logger
}

// maxBody is how many bytes of a request are read.
const maxBody = 16 << 10

// maxImportBody is maxBody for manage.MaxImport tokens with the longest labels.
const maxImportBody = manage.MaxImport * 3 << 10

// NewAPI returns the API under /api/v1. Its description is at
// /api/v1/openapi.json. Every request's context must name an actor, see
// WithActor.
func NewAPI(cfg Config) http.Handler {
	mux := http.NewServeMux()
	description := huma.DefaultConfig("tokend", cfg.Version)
	description.OpenAPIPath = "/api/v1/openapi"
	description.DocsPath, description.SchemasPath = "", ""
	description.CreateHooks = nil
	description.RejectUnknownQueryParameters = true
	description.Transformers = append(description.Transformers, withoutValues)
	a := &api{manager: cfg.Manager, log: cfg.Logger}
	h := humago.New(mux, description)
	h.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) { onceEach(h, ctx, next) })
	a.register(h)
	return tellUntaken(cfg.Logger, mux)
}

// onceEach refuses a query parameter that is given twice: one of them would be
// passed over, the user whose tokens are revoked among others.
func onceEach(h huma.API, ctx huma.Context, next func(huma.Context)) {
	address := ctx.URL()
	parameters, err := url.ParseQuery(address.RawQuery)
	if err != nil { // it would be left out
		_ = huma.WriteErr(h, ctx, http.StatusUnprocessableEntity, "the query is badly escaped: a % stands as %25, a # as %23, a ; as %3B")
		return
	}
	for name, values := range parameters {
		if ctx.Method() == http.MethodDelete && values[0] == "" { // or less would be left out than was meant
			_ = huma.WriteErr(h, ctx, http.StatusUnprocessableEntity, fmt.Sprintf("the query parameter %.40q is empty", token.Redact(name)))
			return
		}
		if len(values) > 1 {
			said := fmt.Sprintf("the query parameter %.40q is given %d times: once is right", token.Redact(name), len(values))
			_ = huma.WriteErr(h, ctx, http.StatusUnprocessableEntity, said) // a reply that is held back takes it
			return
		}
	}
	next(ctx)
}

// withoutValues takes what was sent out of an error that says what is wrong with
// it: it may be a secret. So may the name of a field, of which the rest is left.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if problem, ok := v.(*huma.ErrorModel); ok {
		for _, detail := range problem.Errors {
			detail.Value = nil
			detail.Message, detail.Location = token.Redact(detail.Message), token.Redact(detail.Location)
		}
	}
	return v, nil
}

type actorKey struct{}

// WithActor says who makes the requests under ctx, in the words of the audit
// trail: "uid=0(root)".
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actorOf(ctx context.Context) (string, error) {
	if actor, ok := ctx.Value(actorKey{}).(string); ok && actor != "" {
		return actor, nil
	}
	return "", huma.Error401Unauthorized("nobody is known to be asking")
}
