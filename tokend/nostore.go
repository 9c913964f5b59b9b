package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// noStore is where tokend keeps no tokens of its own, beside those of Knox.
type noStore struct{}

var _ tokenStore = noStore{}

var errNoStore = fmt.Errorf("%w: %w", manage.ErrInvalid, errors.New("this daemon keeps no tokens of its own ([store] url is empty); tokens of Knox are made and deleted in SODAR; to make any here, or import those, set [store] url and restart"))

func (noStore) Lookup(context.Context, token.Digest) (token.Record, error) {
	return token.Record{}, token.ErrNotFound
}

func (noStore) Mint(context.Context, token.Record, token.Quota, token.Event) error { return errNoStore }

func (noStore) Adopt(context.Context, []token.Record, token.Event) ([]string, error) {
	return nil, errNoStore
}

func (noStore) Known(context.Context, []token.Digest) (int, error) { return 0, errNoStore }

func (noStore) Revoke(context.Context, token.Selection, time.Time, token.Event) ([]token.Record, error) {
	return nil, errNoStore
}

func (noStore) SetDisabled(context.Context, string, bool, time.Time, token.Event) ([]token.Digest, bool, error) {
	return nil, false, errNoStore
}

func (noStore) Records(context.Context, token.Page) ([]token.Record, error) { return nil, errNoStore }

func (noStore) Rotate(context.Context, token.Record, token.Record, time.Time, token.Quota, token.Event, token.Event) error {
	return errNoStore
}

func (noStore) Record(context.Context, string) (token.Record, error) {
	return token.Record{}, errNoStore
}

func (noStore) NoteUses(context.Context, []token.Use) error { return nil } // there is none to be noted

func (noStore) Users(context.Context, token.UserPage, time.Time, token.Life) ([]token.User, error) {
	return nil, errNoStore
}

func (noStore) Events(context.Context, token.EventPage) ([]token.Event, error) {
	return nil, errNoStore
}

func (noStore) Count(context.Context, time.Time, token.Life) (map[token.State]int, error) {
	return map[token.State]int{}, nil
}

func (noStore) Ping(context.Context) error { return nil }

func (noStore) Close() error { return nil }
