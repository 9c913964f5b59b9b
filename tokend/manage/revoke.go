package manage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tokend/tokend/token"
)

// Ended is a token that is revoked, as it is now.
type Ended struct {
	token.Record
	Before bool // whether it was revoked before, and is unchanged
}

// Revoke ends a token by its public ID. token.ErrNotFound: no such ID.
func (m *Manager) Revoke(ctx context.Context, actor, id string) (Ended, error) {
	if id == "" {
		return Ended{}, invalid(errors.New("the token's ID is empty"))
	}
	return one(m.revoke(ctx, actor, token.Selection{ID: id}, "", noSuchToken(id)))
}

func noSuchToken(id string) string {
	if strings.HasPrefix(id, token.KnoxID) {
		return fmt.Sprintf("%.80q is a token of Knox: delete it in SODAR, or where the site keeps it", token.RedactName(id))
	}
	return fmt.Sprintf("no token has the ID %.80q; the list of tokens shows the IDs", token.RedactName(id))
}

// RevokeBefore ends tokens that were created before a time, of one user or, where that is empty, of all, and
// returns them: some at a time, in the order of their creation; there is none left when it returns none.
func (m *Manager) RevokeBefore(ctx context.Context, actor, user string, before time.Time) ([]Ended, error) {
	if user != "" {
		if err := token.CheckUser(user); err != nil {
			return nil, invalid(err)
		}
	}
	if before.IsZero() || before.After(m.now()) {
		return nil, invalid(errors.New("the time lies in the future; tokens are revoked that were created before one that has been"))
	}
	return m.revoke(ctx, actor, token.Selection{Owner: user, Before: before}, "created before "+before.UTC().Format(time.RFC3339), noSuchUser(user))
}

// RevokeFound ends the token whose secret somebody found, for example in a
// public repository. ErrInvalid: the text is no token. token.ErrNotFound: no
// token has this secret.
func (m *Manager) RevokeFound(ctx context.Context, actor, text string) (Ended, error) {
	digests, missing := []token.Digest{}, "no token has this secret"
	secret, err := token.Parse(text)
	if err == nil {
		digests = append(digests, secret.Digest())
	} else if knox, no := token.ParseKnox(text, m.knoxPrefix); no != nil {
		if len(text) > token.KnoxLength && !strings.HasPrefix(text, token.Prefix) {
			err = no // it may have a prefix
		}
	} else { // it may have been imported
		missing = "no token that is kept here has this secret; if it is SODAR's, delete it there"
		for _, scheme := range []token.Scheme{token.Knox5, token.Knox4} {
			if digest, may := knox.Digest(scheme); may {
				digests = append(digests, digest)
			}
		}
	}
	if len(digests) == 0 {
		return Ended{}, invalid(err)
	}
	var ended Ended
	for _, digest := range digests {
		ended, err = one(m.revoke(ctx, actor, token.Selection{Digest: digest}, "its secret was found", missing))
		if !errors.Is(err, token.ErrNotFound) {
			break
		}
	}
	return ended, err
}

// RevokeAll ends all tokens of a user and returns them. ErrInvalid: nobody can
// have this name. token.ErrNotFound: no such user.
func (m *Manager) RevokeAll(ctx context.Context, actor, user string) ([]Ended, error) {
	if err := token.CheckUser(user); err != nil {
		return nil, invalid(err)
	}
	return m.revoke(ctx, actor, token.Selection{Owner: user}, "all of the user's tokens", noSuchUser(user))
}

func one(ended []Ended, err error) (Ended, error) {
	if err != nil {
		return Ended{}, err
	}
	return ended[0], nil
}

func noSuchUser(user string) string {
	return fmt.Sprintf("there is no user %.80q; a user is known from the first token on", user)
}

// notFound says what isn't there, where that is why a change failed.
func notFound(err error, missing string) error {
	if errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("%w: %s", token.ErrNotFound, missing)
	}
	return err
}

// revoke changes the store, then makes every check see it. When the second
// fails the token is revoked all the same, but not everywhere at once: the
// error says so. Nor is what the store did not finish in time left undone: checks
// ask it again.
func (m *Manager) revoke(ctx context.Context, actor string, s token.Selection, why, missing string) ([]Ended, error) {
	now := token.Time(m.now())
	records, err := m.store.Revoke(ctx, s, now, token.Event{At: now, Actor: actor, Action: token.TokenRevoked, Detail: why})
	digests := make([]token.Digest, 0, len(records))
	for _, r := range records {
		digests = append(digests, r.Digest)
	}
	if err != nil {
		err = notFound(err, missing)
		if len(digests) == 0 && !errors.Is(err, token.ErrNotFound) {
			err = fmt.Errorf("%w; nothing was revoked", err)
		}
		return nil, m.unsure(ctx, digests, err)
	}
	ended := make([]Ended, 0, len(records))
	for _, r := range records {
		before := !r.Revoked.Equal(now)
		if !before {
			m.log.InfoContext(ctx, "token revoked", "user", r.Owner, "token", r.ID, "by", actor)
		}
		ended = append(ended, Ended{r, before})
	}
	return ended, m.forgetNow(ctx, digests)
}

// Disable keeps a user's tokens from opening anything, and new ones from being
// made. ErrInvalid: nobody can have this name. token.ErrNotFound: no such user.
func (m *Manager) Disable(ctx context.Context, actor, user string) error {
	return m.setDisabled(ctx, actor, user, true)
}

// Enable undoes Disable, with the same errors.
func (m *Manager) Enable(ctx context.Context, actor, user string) error {
	return m.setDisabled(ctx, actor, user, false)
}

func (m *Manager) setDisabled(ctx context.Context, actor, user string, disabled bool) error {
	if err := token.CheckUser(user); err != nil {
		return invalid(err)
	}
	action := token.UserEnabled
	if disabled {
		action = token.UserDisabled
	}
	now := token.Time(m.now())
	digests, changed, err := m.store.SetDisabled(ctx, user, disabled, now, token.Event{At: now, Actor: actor, Action: action})
	if err != nil {
		err = notFound(err, noSuchUser(user))
		if len(digests) == 0 {
			err = unchanged(err)
		}
		return m.unsure(ctx, digests, err)
	}
	switch {
	case !changed: // somebody else did it before
	case disabled:
		m.log.InfoContext(ctx, "user disabled", "user", user, "by", actor)
	default:
		m.log.InfoContext(ctx, "user enabled", "user", user, "by", actor)
	}
	return m.forgetNow(ctx, digests)
}

// unchanged says whether anything was, where the store knows of no tokens.
func unchanged(err error) error {
	switch {
	case errors.Is(err, token.ErrNotFound):
		return err
	case unanswered(err):
		return perhaps(err)
	}
	return fmt.Errorf("%w; nothing was changed", err)
}

// unanswered reports whether it is not known what came of the change.
func unanswered(err error) bool {
	return errors.Is(err, token.ErrUnsure) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// perhaps says that it is not known. What the list shows a fail-over may take back.
func perhaps(err error) error {
	return fmt.Errorf("%w; it may have been done all the same: do it again until there is an answer", err)
}

func (m *Manager) forgetNow(ctx context.Context, digests []token.Digest) error {
	// The change is made: that the caller gave up doesn't excuse from telling it.
	if err := m.forget(context.WithoutCancel(ctx), digests...); err != nil {
		return fmt.Errorf("the change is kept, but old answers may be believed for a while: %w", err)
	}
	return nil
}

// unsure is for a change that ended with an error. If there are digests, it may
// have been made all the same, or may be in a moment: then nothing that was read
// before is believed.
func (m *Manager) unsure(ctx context.Context, digests []token.Digest, err error) error {
	if len(digests) == 0 {
		return err
	}
	return errors.Join(perhaps(err), m.forget(context.WithoutCancel(ctx), digests...))
}
