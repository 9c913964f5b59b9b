package config

import (
	"bytes"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"tokend/tokend/token"
)

// file is a configuration file that is being read.
type file struct {
	data     []byte
	config   Config
	sections map[string]int     // where each one began
	keys     map[string]setting // those that stand in the file
	problems []problem
}

type setting struct {
	at  int
	bad bool
}

// walk sets every key of the file and says whether it came to the end. It goes
// by the syntax tree, because only that knows where each key stands.
func (f *file) walk() bool {
	var parser unstable.Parser
	parser.Reset(f.data)
	var section []string
	judged := true // whether the section's keys are; those of an unknown one are not
	for parser.NextExpression() {
		node := parser.Expression()
		if node.Kind != unstable.KeyValue {
			section, judged = f.begin(node)
		} else if judged {
			f.assign(section, node)
		}
	}
	err := parser.Error()
	if err == nil {
		return true
	}
	at := 0
	if syntax := new(unstable.ParserError); errors.As(err, &syntax) {
		at = int(parser.Range(syntax.Highlight).Offset)
	}
	hint := ""
	if unquoted.Match(f.data[bytes.LastIndexByte(f.data[:at], '\n')+1:]) {
		hint = `; text stands in straight quotes, "like this"`
	}
	f.problem(at, "this is no TOML: %s%s", err, hint)
	return false
}

// unquoted is a value, or the first of a list, that was meant for text: a word, a
// path or an address.
var unquoted = regexp.MustCompile(`^[^=\n#]*=[ \t]*\[?[ \t]*([A-Za-z/:@“”„‘’«»]|[0-9.]+:)`)

// begin takes a section's header, and says whether to judge the keys below it.
func (f *file) begin(header *unstable.Node) (path []string, judge bool) {
	path, at := pathOf(header)
	name := path[0]
	first, again := f.sections[name]
	switch {
	case len(path) > 1:
		f.place(path, value{at: at, kind: header.Kind})
		return path, false
	case !isSection(name):
		f.problem(at, "%s", noSection(name))
		return path, false
	case header.Kind == unstable.ArrayTable:
		f.problem(at, "[[%s]] begins one section of several; write [%s]", name, name)
	case again:
		f.problem(at, "[%s] begins a second time; put its keys under the first, on line %d", name, f.line(first))
	}
	if !again {
		f.sections[name] = at
	}
	return path, true
}

// assign takes a key and its value, or the keys in a section written as { }.
func (f *file) assign(section []string, node *unstable.Node) {
	path, at := pathOf(node)
	path = slices.Concat(section, path)
	if _, ok := f.sections[path[0]]; !ok {
		f.sections[path[0]] = at
	}
	content := node.Value()
	if len(path) > 1 || content.Kind != unstable.InlineTable || !isSection(path[0]) {
		f.place(path, newValue(content, at))
		return
	}
	for child := content.Child(); child != nil; child = child.Next() {
		f.assign(path, child)
	}
}

// place sets the key at path to v.
func (f *file) place(path []string, v value) {
	section := path[0]
	switch {
	case len(path) == 1 && isSection(section):
		f.problem(v.at, "%s is a section; write [%s] on a line, and its keys below", section, section)
		return
	case len(path) == 1 && v.kind != unstable.InlineTable:
		f.problem(v.at, "%s", noKeyOutside(section))
		return
	case !isSection(section):
		f.problem(v.at, "%s", noSection(section))
		return
	}
	key, ok := find(section + "." + path[1])
	if !ok {
		f.problem(v.at, "%s", noKey(section, path[1]))
		return
	}
	if first, ok := f.keys[key.name]; ok {
		f.problem(v.at, "%s stands a second time; keep one of the two, the other is on line %d", spoken(key.name), f.line(first.at))
		return
	}
	if len(path) > 2 {
		v.kind = unstable.Table
	}
	problems := key.set(&f.config, v)
	f.problems = append(f.problems, problems...)
	f.keys[key.name] = setting{v.at, problems != nil}
}

// compare judges the keys that depend on each other, and gives default_expiry
// its default. What is bad by itself is not compared.
func (f *file) compare() {
	auth, admin := f.keys["auth.socket"], f.keys["admin.socket"]
	path := f.config.Auth.Socket
	if !auth.bad && !admin.bad && filepath.Clean(path) == filepath.Clean(f.config.Admin.Socket) {
		f.problem(max(auth.at, admin.at), "[auth] socket and [admin] socket are both %q; give each its own", path)
	}
	f.compareStore()
	f.compareKnox()
	f.compareCache()
	expiry, written := f.keys["tokens.default_expiry"]
	t := &f.config.Tokens
	switch {
	case expiry.bad || f.keys["tokens.max_expiry"].bad || t.MaxExpiry == token.Forever:
	case !written:
		t.DefaultExpiry = t.MaxExpiry
	case t.DefaultExpiry == token.Forever || t.DefaultExpiry > t.MaxExpiry:
		f.problem(expiry.at, `[tokens] default_expiry: "%s" is longer than max_expiry, "%s"; write at most that, or leave default_expiry out`, t.DefaultExpiry, t.MaxExpiry)
	}
}

// check finds what TOML forbids and walk does not see: a section that is
// written as { } and goes on elsewhere, for one.
func (f *file) check() {
	var all map[string]any
	err := toml.Unmarshal(f.data, &all)
	if err == nil {
		return
	}
	at := 0
	if syntax := new(toml.DecodeError); errors.As(err, &syntax) {
		at = f.offset(syntax.Position())
	}
	f.problem(at, "this is no TOML: %s", strings.TrimPrefix(err.Error(), "toml: "))
}

// pathOf returns the parts of a key or of a header, and where the first stands.
func pathOf(node *unstable.Node) (path []string, at int) {
	for parts := node.Key(); parts.Next(); {
		if path == nil {
			at = int(parts.Node().Raw.Offset)
		}
		path = append(path, string(parts.Node().Data))
	}
	return path, at
}
