package storetest

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"tokend/tokend/store"
	"tokend/tokend/token"
)

// webModel is what the web pages keep, in its simplest form.
type webModel struct {
	accounts []token.Account
	tickets  []token.Ticket
	key      [32]byte
}

func (m *model) Rotate(ctx context.Context, old, record token.Record, until time.Time, quota token.Quota, ended, made token.Event) error {
	leave, err := m.enter(ctx, store.CheckRotation(old, record))
	defer leave()
	if err != nil {
		return err
	}
	if !m.disabled[record.Owner].IsZero() {
		return token.ErrUserDisabled
	}
	i := slices.IndexFunc(m.tokens, func(r token.Record) bool { return r.ID == old.ID && r.Owner == old.Owner })
	if i < 0 || !m.tokens[i].Revoked.IsZero() || !m.tokens[i].Expires.Equal(token.Time(old.Expires)) {
		return token.ErrChanged
	}
	before := m.tokens[i]
	if until.After(record.Created) {
		m.tokens[i].Expires = token.Time(until)
	} else {
		m.tokens[i].Revoked = token.Time(record.Created)
	}
	err = m.mintable(record, quota)
	if err != nil {
		m.tokens[i] = before
		return err
	}
	m.tell(ended, old.Owner, old.ID)
	m.keep(record, made)
	return nil
}

func (m *model) Record(ctx context.Context, id string) (token.Record, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return token.Record{}, err
	}
	for _, r := range m.tokens {
		if r.ID == id {
			return m.listed(r), nil
		}
	}
	return token.Record{}, token.ErrNotFound
}

func (m *model) NoteUses(ctx context.Context, uses []token.Use) error {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return err
	}
	for _, u := range uses {
		u.At = token.Time(u.At)
		if last, noted := m.uses[u.Token]; !noted || u.At.After(last.At) {
			m.uses[u.Token] = u
		}
	}
	return nil
}

// listed is a record as a list has it.
func (m *model) listed(r token.Record) token.Record {
	r = m.read(r)
	r.Used, r.UsedByAPI = m.uses[r.ID].At, m.uses[r.ID].API
	return r
}

func (m *model) Bind(ctx context.Context, account token.Account, event token.Event) (token.Account, error) {
	leave, err := m.enter(ctx, store.CheckAccount(account))
	defer leave()
	if err != nil {
		return token.Account{}, err
	}
	if !m.disabled[account.Name].IsZero() {
		return token.Account{}, token.ErrUserDisabled
	}
	for _, other := range m.accounts {
		switch {
		case other.Same(account):
			return other, nil
		case other.Name == account.Name || other.Issuer == account.Issuer && other.Subject == account.Subject:
			return token.Account{}, token.TakenError{By: other}
		}
	}
	account.Created = token.Time(account.Created)
	m.disabled[account.Name] = time.Time{}
	m.accounts = append(m.accounts, account)
	m.tell(event, account.Name, "")
	return account, nil
}

func (m *model) Unbind(ctx context.Context, name string, event token.Event) error {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(m.accounts, func(a token.Account) bool { return a.Name == name })
	if i < 0 {
		return token.ErrNotFound
	}
	m.accounts = slices.Delete(m.accounts, i, i+1)
	m.tell(event, name, "")
	return nil
}

func (m *model) Account(ctx context.Context, name string) (token.Account, error) {
	return m.account(ctx, func(a token.Account) bool { return a.Name == name })
}

func (m *model) AccountOf(ctx context.Context, issuer, subject string) (token.Account, error) {
	return m.account(ctx, func(a token.Account) bool { return a.Issuer == issuer && a.Subject == subject })
}

func (m *model) account(ctx context.Context, is func(token.Account) bool) (token.Account, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if i := slices.IndexFunc(m.accounts, is); err == nil && i >= 0 {
		return m.accounts[i], nil
	} else if err == nil {
		err = token.ErrNotFound
	}
	return token.Account{}, err
}

func (m *model) PutTicket(ctx context.Context, t token.Ticket, most int, events ...token.Event) error {
	leave, err := m.enter(ctx, store.CheckTicket(t))
	defer leave()
	if err != nil {
		return err
	}
	good := 0
	for _, other := range m.tickets {
		if other.Digest == t.Digest {
			return store.ErrExists
		}
		if other.Kind == t.Kind && !other.Expires.Before(token.Time(t.Created)) {
			good++
		}
	}
	if most > 0 && good >= most {
		return token.ErrTooMany
	}
	t.Created, t.Expires, t.OwnerDisabled = token.Time(t.Created), token.Time(t.Expires), false
	m.tickets = append(m.tickets, t)
	for _, e := range events {
		m.tell(e, e.User, e.Token)
	}
	return nil
}

func (m *model) Ticket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return token.Ticket{}, err
	}
	i := m.ticketAt(kind, digest)
	if i < 0 {
		return token.Ticket{}, token.ErrNotFound
	}
	return m.readTicket(m.tickets[i]), nil
}

func (m *model) ticketAt(kind token.TicketKind, digest token.Digest) int {
	return slices.IndexFunc(m.tickets, func(t token.Ticket) bool { return t.Kind == kind && t.Digest == digest })
}

func (m *model) readTicket(t token.Ticket) token.Ticket {
	t.OwnerDisabled = !m.disabled[t.Owner].IsZero()
	return t
}

func (m *model) TicketByRef(ctx context.Context, kind token.TicketKind, ref string) (found token.Ticket, err error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return token.Ticket{}, err
	}
	for _, t := range m.tickets {
		if t.Kind == kind && t.Ref == ref && ref != "" &&
			(found.Kind == "" || t.Created.After(found.Created) || t.Created.Equal(found.Created) && strings.Compare(t.Digest.String(), found.Digest.String()) < 0) {
			found = t
		}
	}
	if found.Kind == "" {
		return found, token.ErrNotFound
	}
	return m.readTicket(found), nil
}

func (m *model) ChangeTicket(ctx context.Context, t token.Ticket) error {
	leave, err := m.enter(ctx, store.CheckTicket(t))
	defer leave()
	if err != nil {
		return err
	}
	i := m.ticketAt(t.Kind, t.Digest)
	if i < 0 || m.tickets[i].Version != t.Version {
		return token.ErrChanged
	}
	kept := &m.tickets[i]
	kept.Owner, kept.Ref, kept.Data, kept.Expires, kept.Version = t.Owner, t.Ref, t.Data, token.Time(t.Expires), t.Version+1
	return nil
}

func (m *model) TakeTicket(ctx context.Context, kind token.TicketKind, digest token.Digest) (token.Ticket, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return token.Ticket{}, err
	}
	i := m.ticketAt(kind, digest)
	if i < 0 {
		return token.Ticket{}, token.ErrNotFound
	}
	t := m.readTicket(m.tickets[i])
	m.tickets = slices.Delete(m.tickets, i, i+1)
	return t, nil
}

func (m *model) EndTickets(ctx context.Context, selection token.TicketSelection) (int64, error) {
	leave, err := m.enter(ctx, store.CheckTicketSelection(selection))
	defer leave()
	if err != nil {
		return 0, err
	}
	return m.removeTickets(func(t token.Ticket) bool {
		return t.Kind == selection.Kind && (selection.Owner == "" || t.Owner == selection.Owner) && (selection.Ref == "" || t.Ref == selection.Ref)
	}), nil
}

func (m *model) PruneTickets(ctx context.Context, before time.Time) (int64, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if err != nil {
		return 0, err
	}
	return m.removeTickets(func(t token.Ticket) bool { return t.Expires.Before(token.Time(before)) }), nil
}

func (m *model) removeTickets(is func(token.Ticket) bool) int64 {
	before := len(m.tickets)
	m.tickets = slices.DeleteFunc(m.tickets, is)
	return int64(before - len(m.tickets))
}

func (m *model) WebKey(ctx context.Context) ([32]byte, error) {
	leave, err := m.enter(ctx)
	defer leave()
	if m.key == [32]byte{} {
		_, _ = rand.Read(m.key[:]) // never fails
	}
	return m.key, err
}
