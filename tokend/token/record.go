package token

import "time"

// Record is what is kept of a token. All times are UTC in whole microseconds.
type Record struct {
	ID            string    // public, see NewID
	Digest        Digest    // what the secret is found by
	Scheme        Scheme    // how that was made of the secret
	Owner         string    // iRODS user name
	Hint          string    // the 8 characters behind the prefix
	Label         string    // the owner's words, at most 256 characters
	Created       time.Time //
	Expires       time.Time // zero: never
	Revoked       time.Time // zero: not revoked
	API           bool      // whether it opens the HTTP API and other software, beside iRODS
	OwnerDisabled bool      // whether the owner was disabled when the record was read
	Used          time.Time // when it was good for something last, as far as was noted; zero: never. Look-ups leave it out
	UsedByAPI     bool      // whether that was not iRODS
}

// Use is that a token was good for something.
type Use struct {
	Token string // ID
	At    time.Time
	API   bool // whether that was not iRODS
}

// State is what a token is good for at some moment.
type State string

// Every State there is.
const (
	Active  State = "active"
	Expired State = "expired"
	Revoked State = "revoked"
)

// ExpiresUnder returns when the token stops being valid where no token may
// live longer than limit, where Forever is no limit. A zero time is never.
func (r Record) ExpiresUnder(limit Life) time.Time {
	if limit == Forever {
		return r.Expires
	}
	latest := limit.after(r.Created)
	if r.Expires.IsZero() || latest.Before(r.Expires) {
		return latest
	}
	return r.Expires
}

// StateAt judges revocation and expiry at the time now. A token is expired when
// its expiry lies before now, in whole microseconds; at the very microsecond it
// is still valid, as in Knox.
func (r Record) StateAt(now time.Time, limit Life) State {
	if !r.Revoked.IsZero() {
		return Revoked
	}
	if expires := r.ExpiresUnder(limit); !expires.IsZero() && expires.Before(Time(now)) {
		return Expired
	}
	return Active
}

// Time returns t as records keep it: UTC, whole microseconds, no monotonic part.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// User is an owner of tokens, known from the first token on.
type User struct {
	Name     string
	Disabled time.Time // since when; zero: not disabled
	Tokens   int       // active ones
}

// Quota bounds the active tokens of one user. The zero Quota is no bound.
type Quota struct {
	Tokens  int  // how many; 0: no limit
	MaxLife Life // past which a token is expired, see Record.StateAt
}

// Event is one entry of the audit trail, written in the same transaction as the
// change that it tells of.
type Event struct {
	Number int64 // its place in the trail, from 1; 0 before it is kept
	At     time.Time
	Actor  string // who did it, for example "uid=0(root)"
	Action Action
	User   string // whose token or account
	Token  string // ID; empty where the change is not of a token
	Detail string // for people; never a secret
}

// Action is what an Event tells.
type Action string

// Every Action there is.
const (
	TokenCreated  Action = "token.create"
	TokenRevoked  Action = "token.revoke"
	UserDisabled  Action = "user.disable"
	UserEnabled   Action = "user.enable"
	TokenImported Action = "token.import" // another program had made it
	CacheRotated  Action = "cache.rotate" // its sealing key was replaced
	TokenRotated  Action = "token.rotate" // another takes its place
	UserLinked    Action = "user.link"    // an address to sign in by was made
	UserBound     Action = "user.bind"    // the name is bound to who signed in
	UserUnbound   Action = "user.unbind"  // and is not any more
)

// Actions are all of them.
var Actions = []Action{TokenCreated, TokenRotated, TokenRevoked, TokenImported, UserDisabled, UserEnabled, UserLinked, UserBound, UserUnbound, CacheRotated}

// Selection names the tokens that a change is about. Exactly one field is set, but for Owner beside Before.
type Selection struct {
	ID     string
	Owner  string // all tokens of this user
	Digest Digest
	Before time.Time // some of those that were created before, and are not revoked; none is left when there are none
}

// Page asks for records, newest first.
type Page struct {
	Owner    string    // empty: of all users
	ActiveAt time.Time // only what is active then; zero: all
	MaxLife  Life      // past which a token is expired, see Record.StateAt
	After    string    // the ID of the last record of the page before; empty: from the newest
	Limit    int       // how many at most
}

// UserPage asks for users, by the bytes of their names.
type UserPage struct {
	Find  string // only names that have it somewhere, in capitals or not; empty: all
	After string // the last name of the page before; empty: from the first
	Limit int    // how many at most
}

// EventPage asks for entries of the audit trail, newest first.
type EventPage struct {
	User   string    // empty: of all users
	Token  string    // empty: of all tokens
	Action Action    // empty: every one
	Since  time.Time // zero: from the first
	Until  time.Time // zero: to the last
	Before int64     // only entries with a lower number; 0: from the newest
	Limit  int       // how many at most
}
