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
	const perhaps = "; it may have been replaced all the same: do it again until there is an answer, by which nobody is logged out"
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("refused"), "refused"},
		{context.DeadlineExceeded, context.DeadlineExceeded.Error() + perhaps},
		{token.ErrUnsure, token.ErrUnsure.Error() + perhaps},
		{context.Canceled, context.Canceled.Error() + perhaps},
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
