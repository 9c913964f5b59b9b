package cache

import "bytes"

// shape is what an answer of a Sentinel looks like, where the client takes that for granted:
// another would end the daemon.
type shape struct {
	about  subject
	open   bool // it is an array
	nested bool // with another in it
	values []said
}

// subject is what was asked.
type subject int

const (
	other   subject = iota
	address         // where the primary is
	news            // whatever becomes of the servers, from then on
)

// said is one of the values of an array: its kind, and what it says.
type said struct {
	kind byte
	text []byte
}

func (s *shape) asked(request []byte) {
	switch {
	case s.about == news:
	case bytes.Contains(request, []byte("\r\nget-master-addr-by-name\r\n")):
		s.about = address
	case bytes.Contains(request, []byte("\r\nsubscribe\r\n")):
		s.about = news
	default:
		s.about = other
	}
}

func (s *shape) array(values, depth int) {
	s.nested = s.nested || depth > 0
	s.open = s.open || values >= 0
}

func (s *shape) value(kind byte) {
	if s.about != other {
		s.values = append(s.values, said{kind: kind})
	}
}

// hear is told what the last value says, bit by bit, with the end of the line behind it.
func (s *shape) hear(text []byte) {
	if n := len(s.values); n > 0 {
		s.values[n-1].text = append(s.values[n-1].text, text...)
	}
}

// fits reports whether the answer, which has come whole, is one that may be passed on.
func (s *shape) fits() bool {
	is := *s
	s.open, s.nested, s.values = false, false, nil // and not what is asked: that is written elsewhere
	switch {
	case is.about == other || !is.open:
		return true
	case is.nested:
		return false
	case is.about == address:
		return len(is.values) == 2 && is.values[0].isText() && is.values[1].isText()
	}
	if len(is.values) == 2 { // an answer to PING
		return is.values[0].says("pong") && is.values[1].isText()
	}
	if len(is.values) != 3 || !is.values[1].isText() {
		return false
	}
	const words = 5 // name, host, port, and those that are now
	switch kind, channel, third := is.values[0], is.values[1], is.values[2]; {
	case kind.says("subscribe"), kind.says("unsubscribe"):
		return third.kind == ':'
	case kind.says("message"):
		return third.isText() && (!channel.says("+switch-master") || len(bytes.Split(third.text, []byte(" "))) >= words)
	}
	return false
}

// isText reports whether the client has it as a string, and not as none.
func (v said) isText() bool { return v.kind == '$' && len(v.text) > 0 || v.kind == '+' }

func (v said) says(text string) bool {
	return v.isText() && string(bytes.TrimSuffix(v.text, []byte("\r\n"))) == text
}
