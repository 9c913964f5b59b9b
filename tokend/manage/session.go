package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tokend/tokend/token"
)

// TicketStore keeps tickets, see token.Ticket.
type TicketStore interface {
	PutTicket(ctx context.Context, t token.Ticket, most int, events ...token.Event) error
	Ticket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error)
	ChangeTicket(ctx context.Context, t token.Ticket) error
	TakeTicket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error)
	EndTickets(ctx context.Context, s token.TicketSelection) (int64, error)
	PruneTickets(ctx context.Context, before time.Time) (int64, error)
}

// Session is somebody who is signed in.
type Session struct {
	Name     string    // the iRODS user's
	Admin    bool      // whether they may manage everybody's tokens
	SignedIn time.Time // when they proved who they are
	Until    time.Time // when it ends, if it is not used before
}

// kept is what a session's, or a link's, ticket has besides.
type kept struct {
	Admin bool      `json:"admin,omitempty"`
	Seen  time.Time `json:"seen,omitzero"`
}

// Lives are how long what lets people in is good.
type Lives struct {
	Link     time.Duration // an address to sign in by
	Idle     time.Duration // a session that is not used
	Absolute time.Duration // any session
}

const (
	// noteEvery is how exactly it is kept when a session was used last.
	noteEvery = time.Minute
	// pruneEvery is how often what has ended is removed.
	pruneEvery = 10 * time.Minute
)

// ErrNotSignedIn is that there is no such session or link, or not any more.
var ErrNotSignedIn = errors.New("not signed in")

// SignIns lets people sign in, and knows who is. Its methods may be called concurrently.
type SignIns struct {
	store TicketStore
	lives Lives
	log   *slog.Logger
	now   func() time.Time
}

// NewSignIns returns one over the store. Now is the time by which sessions end.
func NewSignIns(store TicketStore, lives Lives, log *slog.Logger, now func() time.Time) *SignIns {
	return &SignIns{store, lives, log, now}
}

// Link makes the secret of an address by which the user may sign in once, as an admin or not. ErrInvalid: nobody can
// have this name.
func (s *SignIns) Link(ctx context.Context, actor, user string, admin bool) (secret string, until time.Time, err error) {
	if err := token.CheckUser(user); err != nil {
		return "", time.Time{}, invalid(err)
	}
	now := token.Time(s.now())
	until = now.Add(s.lives.Link)
	detail := "good until " + expiry(until)
	if admin {
		detail += ", as an admin"
	}
	event := token.Event{At: now, Actor: actor, Action: token.UserLinked, User: user, Detail: detail}
	secret, err = s.put(ctx, token.Ticket{Kind: token.LinkTicket, Owner: user, Created: now, Expires: until}, kept{Admin: admin}, event)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("make an address to sign in by: %w", err)
	}
	s.log.InfoContext(ctx, "an address to sign in by was made", "user", user, "admin", admin, "by", actor)
	return secret, until, nil
}

// put keeps a new ticket, and returns its secret, which is nowhere else.
func (s *SignIns) put(ctx context.Context, t token.Ticket, data kept, events ...token.Event) (secret string, err error) {
	secret = token.NewTicketSecret()
	t.Digest = token.TicketDigest(secret)
	if t.Data, err = json.Marshal(data); err != nil {
		return "", err
	}
	return secret, s.store.PutTicket(ctx, t, 0, events...)
}

// ByLink signs in who has the secret of a link, which is good for nothing afterwards, and returns that of the session.
// ErrNotSignedIn: it is none, was used before, or is too old. token.ErrUserDisabled: the user is.
func (s *SignIns) ByLink(ctx context.Context, link string) (secret string, session Session, err error) {
	t, err := s.store.TakeTicket(ctx, token.LinkTicket, token.TicketDigest(link))
	if err != nil {
		return "", Session{}, notSignedIn(err)
	}
	data, err := s.open(t)
	if err != nil {
		return "", Session{}, err
	}
	return s.signIn(ctx, t.Owner, data.Admin)
}

// signIn begins a session.
func (s *SignIns) signIn(ctx context.Context, user string, admin bool) (secret string, session Session, err error) {
	now := token.Time(s.now())
	t := token.Ticket{Kind: token.SessionTicket, Owner: user, Created: now, Expires: s.end(now, now)}
	if secret, err = s.put(ctx, t, kept{Admin: admin, Seen: now}); err != nil {
		return "", Session{}, fmt.Errorf("begin a session: %w", err)
	}
	s.log.InfoContext(ctx, "signed in", "user", user, "admin", admin)
	return secret, Session{user, admin, now, t.Expires}, nil
}

// end is when a session ends that was seen last then.
func (s *SignIns) end(begun, seen time.Time) time.Time {
	idle, latest := seen.Add(s.lives.Idle), begun.Add(s.lives.Absolute)
	if idle.Before(latest) {
		return idle
	}
	return latest
}

// open reads what a ticket has besides, if it is good.
func (s *SignIns) open(t token.Ticket) (data kept, err error) {
	switch {
	case t.Expires.Before(token.Time(s.now())):
		return data, ErrNotSignedIn
	case t.OwnerDisabled:
		return data, token.ErrUserDisabled
	}
	if err := json.Unmarshal(t.Data, &data); err != nil {
		return kept{}, fmt.Errorf("read a ticket: %w", err)
	}
	return data, nil
}

// Session returns who is signed in by the secret, and notes that they were here. ErrNotSignedIn: nobody is, or not any
// more. token.ErrUserDisabled: the user is.
func (s *SignIns) Session(ctx context.Context, secret string) (Session, error) {
	t, err := s.store.Ticket(ctx, token.SessionTicket, token.TicketDigest(secret))
	if err != nil {
		return Session{}, notSignedIn(err)
	}
	data, err := s.open(t)
	if err != nil {
		return Session{}, err
	}
	if now := token.Time(s.now()); now.Sub(data.Seen) >= noteEvery {
		data.Seen, t.Expires = now, s.end(t.Created, now)
		if t.Data, err = json.Marshal(data); err != nil {
			return Session{}, err
		}
		if err := s.store.ChangeTicket(ctx, t); err != nil && !errors.Is(err, token.ErrChanged) { // by another request of theirs
			s.log.WarnContext(ctx, "when a session was used is not kept", "user", t.Owner, "err", err)
		}
	}
	return Session{t.Owner, data.Admin, t.Created, t.Expires}, nil
}

// SignOut ends the session, if there is one.
func (s *SignIns) SignOut(ctx context.Context, secret string) error {
	t, err := s.store.TakeTicket(ctx, token.SessionTicket, token.TicketDigest(secret))
	if errors.Is(err, token.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end a session: %w", err)
	}
	s.log.InfoContext(ctx, "signed out", "user", t.Owner)
	return nil
}

// Run removes what has ended, until ctx ends.
func (s *SignIns) Run(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if _, err := s.store.PruneTickets(ctx, token.Time(s.now())); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sessions that ended were not removed", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func notSignedIn(err error) error {
	if errors.Is(err, token.ErrNotFound) {
		return ErrNotSignedIn
	}
	return fmt.Errorf("look for who is signed in: %w", err)
}
