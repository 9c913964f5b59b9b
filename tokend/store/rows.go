package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"iter"
	"time"

	"tokend/tokend/token"
)

// Rows is all that a store keeps, one after the other: users in the order of their
// names, tokens in that of their IDs, the accounts and uses in the same orders, all compared by their bytes, and the audit
// trail from its beginning. Tickets and the key of cookies, which last for a while, are left behind. An error is the last that is told. What is counted or judged at a
// reading, User.Tokens and Record.OwnerDisabled, is left out.
type Rows interface {
	Users(ctx context.Context) iter.Seq2[token.User, error]
	Records(ctx context.Context) iter.Seq2[token.Record, error]
	Accounts(ctx context.Context) iter.Seq2[token.Account, error]
	Uses(ctx context.Context) iter.Seq2[token.Use, error]
	Events(ctx context.Context) iter.Seq2[token.Event, error]
}

// Tally counts rows and sums up what is in them. Two stores that have the same tally
// have the same rows. The zero Tally is of none.
type Tally struct {
	Users, Tokens, Events int64

	sum hash.Hash
}

// User adds a user.
func (t *Tally) User(u token.User) {
	t.Users++
	t.add("user", u.Name)
	t.times(u.Disabled)
}

// Record adds a token.
func (t *Tally) Record(r token.Record) {
	t.Tokens++
	t.add("token", r.ID, string(r.Digest[:]), r.Owner, r.Hint, r.Label, string(r.Scheme))
	t.times(r.Created, r.Expires, r.Revoked)
	t.flag(r.API)
}

// Account adds an account.
func (t *Tally) Account(a token.Account) {
	t.add("account", a.Name, a.Issuer, a.Subject)
	t.times(a.Created)
}

// Use adds a token's last use.
func (t *Tally) Use(u token.Use) {
	t.add("use", u.Token)
	t.times(u.At)
	t.flag(u.API)
}

// Event adds an entry of the audit trail.
func (t *Tally) Event(e token.Event) {
	t.Events++
	t.add("event", e.Actor, string(e.Action), e.User, e.Token, e.Detail)
	t.number(e.Number)
	t.times(e.At)
}

// Sum is a SHA-256 of all that was added, in its order.
func (t *Tally) Sum() string { return hex.EncodeToString(t.hash().Sum(nil)) }

func (t *Tally) hash() hash.Hash {
	if t.sum == nil {
		t.sum = sha256.New()
	}
	return t.sum
}

// add writes each text behind its length, so that none runs into the next.
func (t *Tally) add(texts ...string) {
	for _, text := range texts {
		t.number(int64(len(text)))
		_, _ = t.hash().Write([]byte(text)) // a hash takes everything
	}
}

// times writes them to the nanosecond, so that what cuts one is found.
func (t *Tally) times(times ...time.Time) {
	for _, at := range times {
		t.number(at.Unix())
		t.number(int64(at.Nanosecond()))
	}
}

func (t *Tally) flag(is bool) {
	var n int64
	if is {
		n = 1
	}
	t.number(n)
}

func (t *Tally) number(n int64) {
	_, _ = t.hash().Write(binary.BigEndian.AppendUint64(nil, uint64(n))) //nolint:gosec // its bits
}
