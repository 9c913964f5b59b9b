package config

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
)

// value is what the file gives a key.
type value struct {
	at   int // the offset that a problem with it is told at
	kind unstable.Kind
	raw  string  // of a text what stands between the quotes, else the spelling
	list []value // of a list its elements, without the lists in them
}

func newValue(node *unstable.Node, at int) value {
	v := value{at: at, kind: node.Kind, raw: string(node.Data)}
	if node.Kind != unstable.Array {
		return v
	}
	for child := node.Child(); child != nil; child = child.Next() {
		element := value{at: at, kind: child.Kind, raw: string(child.Data)}
		if child.Raw.Length > 0 {
			element.at = int(child.Raw.Offset)
		}
		v.list = append(v.list, element)
	}
	return v
}

// kinds says what a value is, for people. A kind that is missing is a date or
// a time.
var kinds = map[unstable.Kind]string{
	unstable.String: "text", unstable.Integer: "a whole number", unstable.Float: "a decimal number",
	unstable.Bool: "true or false", unstable.Array: "a list",
	unstable.InlineTable: "a section", unstable.Table: "a section", unstable.ArrayTable: "a section",
}

func (v value) not(wanted string) error {
	kind, ok := kinds[v.kind]
	if !ok {
		kind = "a date or time"
	}
	return fmt.Errorf("this is %s; write %s", kind, wanted)
}

func (v value) text(example string) (string, error) {
	if v.kind != unstable.String {
		return "", v.not("text in quotes, such as " + strconv.Quote(example))
	}
	return v.raw, nil
}

func (v value) elements() ([]value, error) {
	switch {
	case v.kind != unstable.Array:
		return nil, v.not(`a list, such as ["root", "@wheel"]`)
	case len(v.list) == 0:
		return nil, errors.New("the list is empty, so that nobody could ask; name one user or @group at least")
	}
	return v.list, nil
}

// anyElements are those of a list that may be empty.
func (v value) anyElements() ([]value, error) {
	if v.kind != unstable.Array {
		return nil, v.not(`a list of texts in quotes, or []`)
	}
	return v.list, nil
}
