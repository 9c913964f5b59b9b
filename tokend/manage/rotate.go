package manage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tokend/tokend/token"
)

// MaxOverlap is how long a token may be good beside the one that takes its place.
const MaxOverlap token.Life = 7 * 24 * 3600

// Rotate makes a token in the place of another: of the same owner, label and use, and with as long a life from now on. The old
// one is good for the overlap, as token.ParseLife reads it, or as long as it would have been; where that is empty or "0", it is revoked at once.
// It returns the new secret, which is nowhere else and cannot be had again, the new record, and the old one as it is now. Errors are
// ErrInvalid, which a token is that is not active any more, token.ErrNotFound, token.ErrTooMany, token.ErrUserDisabled, or the store's.
func (m *Manager) Rotate(ctx context.Context, actor, id, overlapping string) (secret token.Secret, record, old token.Record, err error) {
	fail := func(err error) (token.Secret, token.Record, token.Record, error) {
		return token.Secret{}, token.Record{}, token.Record{}, err
	}
	overlap := token.Life(0)
	if overlapping != "" && overlapping != "0" {
		if overlap, err = token.ParseLife(overlapping); err != nil {
			return fail(invalid(fmt.Errorf("the overlap: %w", err)))
		}
		if overlap == token.Forever || overlap > MaxOverlap {
			return fail(invalid(fmt.Errorf("an overlap of %s is more than %s, or has no end", overlap, MaxOverlap)))
		}
	}
	if old, err = m.Record(ctx, id); err != nil {
		return fail(err)
	}
	limits, now := m.limits.Load(), token.Time(m.now())
	if state := old.StateAt(now, limits.MaxExpiry); state != token.Active {
		return fail(invalid(fmt.Errorf("the token %s is %s; make a new one", old.ID, state)))
	}
	if old.Scheme != token.Own {
		return fail(invalid(fmt.Errorf("the token %s is Knox's, and has another spelling; make a new one, and revoke it", old.ID)))
	}
	expires, err := lifeOf(old, limits).From(now)
	if err != nil {
		return fail(invalid(err))
	}
	until := now
	if overlap > 0 {
		if until, err = overlap.From(now); err != nil {
			return fail(invalid(err))
		}
		if end := old.ExpiresUnder(limits.MaxExpiry); !end.IsZero() && end.Before(until) {
			until = end
		}
	}
	secret = token.Mint()
	record = token.Record{
		ID: token.NewID(), Digest: secret.Digest(), Owner: old.Owner, Hint: secret.Hint(),
		Label: old.Label, API: old.API, Created: now, Expires: expires,
	}
	quota := token.Quota{Tokens: limits.MaxPerUser, MaxLife: limits.MaxExpiry}
	ended := token.Event{At: now, Actor: actor, Action: token.TokenRotated, Detail: "by " + record.ID + ", " + goodUntil(now, until)}
	made := token.Event{At: now, Actor: actor, Action: token.TokenCreated, Detail: described(record) + ", in the place of " + old.ID}
	if err := m.store.Rotate(ctx, old, record, until, quota, ended, made); err != nil {
		if errors.Is(err, token.ErrChanged) {
			return fail(invalid(fmt.Errorf("the token %s was revoked, or rotated, by somebody else just now: see the list", old.ID)))
		}
		return fail(m.unsure(ctx, digestsIf(unanswered(err), old.Digest), m.explain(err, record)))
	}
	if until.After(now) {
		old.Expires = until
	} else {
		old.Revoked = now
	}
	m.log.InfoContext(ctx, "token rotated", "user", old.Owner, "token", old.ID, "by_token", record.ID, "until", expiry(until), "by", actor)
	return secret, record, old, m.forgetNow(ctx, []token.Digest{old.Digest})
}

// lifeOf is how long the token was to live, under the limits of now.
func lifeOf(r token.Record, limits *Limits) token.Life {
	life := token.Forever
	if !r.Expires.IsZero() {
		life = token.Life(max(r.Expires.Unix()-r.Created.Unix(), 1))
	}
	if limits.MaxExpiry != token.Forever && (life == token.Forever || life > limits.MaxExpiry) {
		life = limits.MaxExpiry
	}
	return life
}

func goodUntil(now, until time.Time) string {
	if until.After(now) {
		return "good until " + expiry(until)
	}
	return "and revoked"
}

func digestsIf(is bool, digest token.Digest) []token.Digest {
	if is {
		return []token.Digest{digest}
	}
	return nil
}
