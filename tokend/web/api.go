package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

type api struct {
	manager *manage.Manager
	log     *slog.Logger
}

// The shapes that huma reads requests from and writes replies to.
type (
	body[T any]  struct{ Body T }
	none         struct{}
	createdReply struct {
		CacheControl string `header:"Cache-Control"`
		Location     string `header:"Location"`
		Body         Created
	}
	tokenID struct {
		ID string `path:"id"`
	}
	selection struct {
		User   string    `query:"user" doc:"Of this user; needed where before is not given"`
		Before time.Time `query:"before" doc:"Only those that were created before this time: some of them, until none is left"`
	}
	rotation struct {
		ID   string `path:"id"`
		Body Rotation
	}
	rotatedReply struct {
		CacheControl string `header:"Cache-Control"`
		Location     string `header:"Location"`
		Body         Rotated
	}
	userPage struct {
		Find  string `query:"find" doc:"Only names that have this somewhere, in capitals or not"`
		After string `query:"after" doc:"The last name of the page before"`
		Limit int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 0 is 1000"`
	}
	tokenPage struct {
		User  string `query:"user" doc:"Only of this user"`
		State string `query:"state" enum:"active" doc:"active: only those"`
		After string `query:"after" doc:"ID of the last token of the page before"`
		Limit int    `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 0 is 1000"`
	}
	eventPage struct {
		User   string       `query:"user" doc:"Only of this user"`
		Token  string       `query:"token" doc:"Only of the token with this ID"`
		Action token.Action `query:"action" doc:"Only what was done so: token.create, say"`
		Since  time.Time    `query:"since" doc:"Only from this time on"`
		Until  time.Time    `query:"until" doc:"Only before this time"`
		Before int64        `query:"before" minimum:"0" doc:"Number of the last entry of the page before; 0: from the newest"`
		Limit  int          `query:"limit" minimum:"0" maximum:"1000" doc:"How many at most; 0 is 1000"`
	}
	userChange struct {
		Name string `path:"name"`
		Body UserState
	}
)

const tokensPath = "/api/v1/tokens"

func (a *api) register(h huma.API) {
	add(a, h, http.MethodPost, tokensPath, http.StatusCreated, "Create a token", a.create)
	add(a, h, http.MethodGet, tokensPath, http.StatusOK, "List tokens, newest first", a.tokens)
	add(a, h, http.MethodDelete, tokensPath+"/{id}", http.StatusOK, "Revoke a token", a.revoke)
	add(a, h, http.MethodDelete, tokensPath, http.StatusOK, "Revoke all tokens of a user, or those that were created before a time", a.revokeAll)
	add(a, h, http.MethodPost, tokensPath+"/{id}/rotate", http.StatusCreated, "Make a token in the place of another", a.rotate)
	add(a, h, http.MethodPost, tokensPath+"/found", http.StatusOK, "Revoke the token whose secret was found", a.revokeFound)
	add(a, h, http.MethodPost, tokensPath+"/import", http.StatusOK, "Keep tokens that another program has made", a.importTokens)
	add(a, h, http.MethodGet, "/api/v1/users", http.StatusOK, "List users", a.users)
	add(a, h, http.MethodPut, "/api/v1/users/{name}", http.StatusOK, "Disable or enable a user", a.setUser)
	add(a, h, http.MethodPost, "/api/v1/cache/rotate-key", http.StatusNoContent, "Replace the key of a cache that daemons share", a.rotateCacheKey)
	add(a, h, http.MethodGet, "/api/v1/audit", http.StatusOK, "Read the audit trail, newest first", a.events)
}

// add registers an operation whose handler is told who asks.
func add[In, Out any](a *api, h huma.API, method, path string, status int, summary string, handle func(context.Context, string, *In) (*Out, error)) {
	operation := huma.Operation{
		OperationID: huma.GenerateOperationID(method, path, (*Out)(nil)),
		Method:      method, Path: path, DefaultStatus: status, Summary: summary, MaxBodyBytes: maxBody,
	}
	if path == tokensPath+"/import" {
		operation.MaxBodyBytes = maxImportBody
	}
	huma.Register(h, operation, func(ctx context.Context, in *In) (*Out, error) {
		actor, err := actorOf(ctx)
		if err != nil {
			return nil, err
		}
		out, err := handle(ctx, actor, in)
		if err != nil {
			return nil, a.problem(ctx, err, "request", summary, "about", fmt.Sprintf("%.80s", token.RedactName(about(in))), "by", actor)
		}
		return out, nil
	})
}

// about says whose or which token a request is about, if that is known.
func about(in any) string {
	switch in := in.(type) {
	case *body[NewToken]:
		return in.Body.User
	case *tokenID:
		return in.ID
	case *rotation:
		return in.ID
	case *selection:
		return in.User
	case *userChange:
		return in.Name
	}
	return ""
}

// problem is the one place where an error becomes an HTTP status. Errors quote
// names and IDs, and somebody may have given a token for one. The log is told of
// what is no fault of the caller's, with the given attributes.
func (a *api) problem(ctx context.Context, err error, attrs ...any) error {
	said := token.Redact(err.Error())
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, manage.ErrInvalid):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, token.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, token.ErrTooMany), errors.Is(err, token.ErrUserDisabled):
		status = http.StatusConflict
	case is[token.NotNowError](err):
		status = http.StatusServiceUnavailable
		a.log.ErrorContext(ctx, "request failed", append(attrs, "err", said)...)
	case errors.Is(ctx.Err(), context.Canceled):
		a.log.InfoContext(ctx, "the caller did not wait for the answer", append(attrs, "err", said)...)
	default:
		a.log.ErrorContext(ctx, "request failed", append(attrs, "err", said)...)
	}
	return huma.NewError(status, said)
}

// is tells whether the error is of the type.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func (a *api) create(ctx context.Context, actor string, in *body[NewToken]) (*createdReply, error) {
	request := manage.Request{User: in.Body.User, Label: in.Body.Label, Expiry: in.Body.Expiry, API: in.Body.Use == useAPI}
	secret, record, err := a.manager.Create(ctx, actor, request)
	if err != nil {
		return nil, err
	}
	made := Created{Token: showToken(a.manager.View(record)), Secret: secret.Reveal()}
	return &createdReply{CacheControl: "no-store", Location: tokensPath + "/" + record.ID, Body: made}, nil
}

func (a *api) tokens(ctx context.Context, _ string, in *tokenPage) (*body[[]Token], error) {
	list := a.manager.List
	if in.State == string(token.Active) {
		list = a.manager.ListActive
	}
	views, err := list(ctx, token.Page{Owner: in.User, After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &body[[]Token]{showAll(views, showToken)}, nil
}

func (a *api) revoke(ctx context.Context, actor string, in *tokenID) (*body[EndedToken], error) {
	return a.revoked(a.manager.Revoke(ctx, actor, in.ID))
}

func (a *api) revokeFound(ctx context.Context, actor string, in *body[Found]) (*body[EndedToken], error) {
	return a.revoked(a.manager.RevokeFound(ctx, actor, in.Body.Secret))
}

func (a *api) revoked(ended manage.Ended, err error) (*body[EndedToken], error) {
	if err != nil {
		return nil, err
	}
	return &body[EndedToken]{a.showEnded(ended)}, nil
}

func (a *api) rotate(ctx context.Context, actor string, in *rotation) (*rotatedReply, error) {
	secret, record, old, err := a.manager.Rotate(ctx, actor, in.ID, in.Body.Overlap)
	if err != nil {
		return nil, err
	}
	made := Rotated{Created{Token: showToken(a.manager.View(record)), Secret: secret.Reveal()}, showToken(a.manager.View(old))}
	return &rotatedReply{CacheControl: "no-store", Location: tokensPath + "/" + record.ID, Body: made}, nil
}

func (a *api) revokeAll(ctx context.Context, actor string, in *selection) (*body[[]EndedToken], error) {
	revoke := func() ([]manage.Ended, error) { return a.manager.RevokeAll(ctx, actor, in.User) }
	if !in.Before.IsZero() {
		revoke = func() ([]manage.Ended, error) { return a.manager.RevokeBefore(ctx, actor, in.User, in.Before) }
	}
	ended, err := revoke()
	if err != nil {
		return nil, err
	}
	return &body[[]EndedToken]{showAll(ended, a.showEnded)}, nil
}

func (a *api) showEnded(e manage.Ended) EndedToken {
	return EndedToken{showToken(a.manager.View(e.Record)), e.Before}
}

func (a *api) importTokens(ctx context.Context, actor string, in *body[Import]) (*body[Imported], error) {
	records := make([]token.Record, 0, len(in.Body.Tokens))
	for _, t := range in.Body.Tokens {
		r := token.Record{Digest: t.Digest, Scheme: token.Scheme(t.Scheme), Owner: t.User, Hint: t.Hint, Label: t.Label}
		for at, from := range map[*time.Time]*time.Time{&r.Created: t.Created, &r.Expires: t.Expires} {
			if from != nil {
				*at = *from
			}
		}
		if t.Expires != nil && token.Time(r.Expires).IsZero() { // the year 1, which is not never
			r.Expires = time.Unix(0, 0)
		}
		records = append(records, r)
	}
	done, err := a.manager.Import(ctx, actor, in.Body.From, records, in.Body.DryRun)
	if err != nil {
		return nil, err
	}
	out := Imported{New: done.New, Known: done.Known, Expired: done.Expired, Refused: []Refused{}, Unlabelled: done.Unlabelled, Ended: done.Ended}
	for _, r := range done.Refused {
		out.Refused = append(out.Refused, Refused{r.Owner, r.Hint, r.Why})
	}
	return &body[Imported]{out}, nil
}

func (a *api) users(ctx context.Context, _ string, in *userPage) (*body[[]User], error) {
	users, err := a.manager.Users(ctx, token.UserPage{Find: in.Find, After: in.After, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	return &body[[]User]{showAll(users, showUser)}, nil
}

func (a *api) setUser(ctx context.Context, actor string, in *userChange) (*none, error) {
	change := a.manager.Enable
	if in.Body.Disabled {
		change = a.manager.Disable
	}
	return &none{}, change(ctx, actor, in.Name)
}

func (a *api) rotateCacheKey(ctx context.Context, actor string, _ *none) (*none, error) {
	return &none{}, a.manager.RotateCacheKey(ctx, actor)
}

func (a *api) events(ctx context.Context, _ string, in *eventPage) (*body[[]Event], error) {
	events, err := a.manager.Events(ctx, token.EventPage{
		User: in.User, Token: in.Token, Action: in.Action, Since: in.Since, Until: in.Until, Before: in.Before, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	return &body[[]Event]{showAll(events, showEvent)}, nil
}
