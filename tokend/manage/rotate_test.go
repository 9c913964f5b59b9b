package manage_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// TestARotationWithoutAnAnswerMayHaveBeenDone: how often is asked where a key has leaked.
func TestARotationWithoutAnAnswerMayHaveBeenDone(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("refused"), "refused"},
		{context.DeadlineExceeded, "context deadline exceeded; it may have been replaced all the same: see tokend audit"},
		{token.ErrUnsure, token.ErrUnsure.Error() + "; it may have been replaced all the same: see tokend audit"},
	} {
		f := newFixture(t, manage.Limits{})
		m := manage.New(manage.Config{
			Store: f.store, Logger: slog.New(slog.DiscardHandler),
			Rotate: func(context.Context, token.Event) error { return tt.err },
		})
		got := ""
		if err := m.RotateCacheKey(t.Context(), actor); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
	}
}
