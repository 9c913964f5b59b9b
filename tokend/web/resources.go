package web

import (
	"time"

	"tokend/tokend/manage"
	"tokend/tokend/token"
)

// Token is a token as the API shows it: never its secret, never its digest.
type Token struct {
	ID      string      `json:"id" doc:"Public ID, by which it is revoked"`
	User    string      `json:"user" doc:"iRODS user name of the owner"`
	Hint    string      `json:"hint" doc:"The 8 characters behind the prefix, to recognise it by"`
	Label   string      `json:"label"`
	State   token.State `json:"state" enum:"active,expired,revoked"`
	Created time.Time   `json:"created"`
	Expires *time.Time  `json:"expires" doc:"null: never"`
	Revoked *time.Time  `json:"revoked" doc:"null: it is not"`

	Scheme token.Scheme `json:"scheme" enum:",knox-4.2,knox-5" doc:"Of an imported token, whose it was; empty: it is tokend's own"`

	UserDisabled bool `json:"user_disabled" doc:"Whether the owner is disabled: then an active token opens nothing either"`

	Use    string     `json:"use" enum:"irods,api" doc:"What it opens: iRODS alone, or this API and other software, too"`
	Used   *time.Time `json:"used" doc:"When it was good for something last, to the minute; null: never, as far as is known"`
	UsedBy string     `json:"used_by" enum:",irods,api" doc:"And for what"`
}

// EndedToken is one that is revoked.
type EndedToken struct {
	Token

	Before bool `json:"revoked_before" doc:"Whether it was revoked before, and is unchanged"`
}

// NewToken asks for a token.
type NewToken struct {
	User   string `json:"user"`
	Label  string `json:"label,omitempty" doc:"At most 256 characters"`
	Expiry string `json:"expiry,omitempty" doc:"Hours (24), a duration (90m, 36h, 30d, 2w), or never; empty: the site's default"`
	Use    string `json:"use,omitempty" enum:"irods,api" default:"irods" doc:"What it is to open: iRODS alone, or this API and other software, too"`
}

// Rotation asks for a token in the place of another.
type Rotation struct {
	Overlap string `json:"overlap,omitempty" doc:"How long the old one stays good: hours, or a duration of at most 7d; empty: it is revoked at once"`
}

// Rotated is a new token in the place of another, with its secret, which is shown this once.
type Rotated struct {
	Created

	Old Token `json:"old" doc:"The other one, as it is now"`
}

// Created is a new token with its secret, which is shown this once.
type Created struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret"`
}

// Found carries a secret that somebody found. It stands in the body because
// addresses end up in logs.
type Found struct {
	Secret string `json:"secret"`
}

// Foreign is a token that another program has made.
type Foreign struct {
	Digest  token.Digest `json:"digest" doc:"SHA-512, 128 hexadecimal digits"`
	Scheme  string       `json:"scheme" enum:"knox-4.2,knox-5" doc:"Whose it is: it says how the digest is made of the token"`
	User    string       `json:"user"`
	Hint    string       `json:"hint" doc:"The first 8 digits behind a prefix, to recognise it by"`
	Label   string       `json:"label,omitempty"`
	Created *time.Time   `json:"created,omitempty" doc:"Nothing: it is not known"`
	Expires *time.Time   `json:"expires,omitempty" doc:"Nothing: never"`
}

// Import asks that such tokens be kept.
type Import struct {
	From   string    `json:"from" doc:"Where they are from, for the audit trail"`
	Tokens []Foreign `json:"tokens"`
	DryRun bool      `json:"dry_run,omitempty" doc:"Tell what would become of them, and change nothing"`
}

// Imported is what became of them.
type Imported struct {
	New     int       `json:"new"`
	Known   int       `json:"known" doc:"Were kept before"`
	Expired int       `json:"expired" doc:"Left out"`
	Refused []Refused `json:"refused"`

	Unlabelled int `json:"unlabelled" doc:"Of the new and the known ones, those whose label could not be written here"`
	Ended      int `json:"ended" doc:"Of the new and the known ones, those that [tokens] max_expiry has ended"`
}

// Refused is one that cannot be kept.
type Refused struct {
	User string `json:"user"`
	Hint string `json:"hint"`
	Why  string `json:"why"`
}

// User is an owner of tokens.
type User struct {
	Name     string     `json:"name"`
	Disabled *time.Time `json:"disabled" doc:"Since when; null: it is not"`
	Tokens   int        `json:"tokens" doc:"Active ones"`
}

// UserState is what can be changed of a user.
type UserState struct {
	Disabled bool `json:"disabled"`
}

// Event is an entry of the audit trail.
type Event struct {
	Number int64        `json:"number" doc:"Its place in the trail: later entries have higher ones, some may be left out"`
	At     time.Time    `json:"at"`
	Actor  string       `json:"actor"`
	Action token.Action `json:"action"`
	User   string       `json:"user"`
	Token  string       `json:"token"`
	Detail string       `json:"detail"`
}

func showToken(v manage.View) Token {
	return Token{
		ID: v.ID, User: v.Owner, Hint: v.Hint, Label: v.Label, State: v.State,
		Created: v.Created, Expires: showTime(v.Expires), Revoked: showTime(v.Revoked), Scheme: v.Scheme, UserDisabled: v.OwnerDisabled,
		Use: showUse(v.API), Used: showTime(v.Used), UsedBy: showUsedBy(v.Record),
	}
}

// What a token opens, as the API says it.
const (
	useIRODS = "irods"
	useAPI   = "api"
)

func showUse(api bool) string {
	if api {
		return useAPI
	}
	return useIRODS
}

func showUsedBy(r token.Record) string {
	if r.Used.IsZero() {
		return ""
	}
	return showUse(r.UsedByAPI)
}

func showUser(u token.User) User {
	return User{Name: u.Name, Disabled: showTime(u.Disabled), Tokens: u.Tokens}
}

func showEvent(e token.Event) Event {
	return Event{Number: e.Number, At: e.At, Actor: e.Actor, Action: e.Action, User: e.User, Token: e.Token, Detail: e.Detail}
}

func showTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func showAll[From, To any](all []From, show func(From) To) []To {
	shown := make([]To, 0, len(all))
	for _, one := range all {
		shown = append(shown, show(one))
	}
	return shown
}
