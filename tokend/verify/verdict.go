package verify

// Verdict is a yes, or a no and why.
type Verdict struct {
	Reason Reason
	Token  string // the token's public ID; empty where none was found
	Detail error  // more for the log; nil where the reason says it all
}

// OK reports a yes. The zero Verdict is none.
func (v Verdict) OK() bool { return v.Reason == OK }

// Reason is a word from a closed list. It goes to the log, the metrics and the
// helper, and never to the one who logs in.
type Reason string

// Every Reason that a verdict has.
const (
	OK           Reason = "ok"
	Malformed    Reason = "malformed"     // it cannot be a token: no look-up was made
	Unknown      Reason = "unknown"       // there is no such token
	Expired      Reason = "expired"       //
	Revoked      Reason = "revoked"       //
	WrongUser    Reason = "wrong-user"    // the token is somebody else's
	UserDisabled Reason = "user-disabled" // the token is good, its owner isn't
	Unavailable  Reason = "unavailable"   // nobody can say now
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{OK, Malformed, Unknown, Expired, Revoked, WrongUser, UserDisabled, Unavailable}
}
