package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// problem is one thing that is wrong, at an offset of the file.
type problem struct {
	at   int
	text string
}

func (f *file) problem(at int, format string, args ...any) {
	f.problems = append(f.problems, problem{at, fmt.Sprintf(format, args...)})
}

// err joins the problems, a line for each, in the file's order.
func (f *file) err(name string) error {
	slices.SortStableFunc(f.problems, func(a, b problem) int { return cmp.Compare(a.at, b.at) })
	var lines []error
	for _, p := range f.problems {
		column := p.at - bytes.LastIndexByte(f.data[:p.at], '\n')
		lines = append(lines, fmt.Errorf("%s:%d:%d: %s", name, f.line(p.at), column, p.text))
	}
	return errors.Join(lines...)
}

func (f *file) line(at int) int { return 1 + bytes.Count(f.data[:at], []byte("\n")) }

func (f *file) offset(line, column int) int {
	start := 0
	for range line - 1 {
		start += bytes.IndexByte(f.data[start:], '\n') + 1
	}
	return start + column - 1
}

func noSection(name string) string {
	return fmt.Sprintf("there is no section %.40q; there are %s", name, bracketed(sections()))
}

func noKey(section, name string) string {
	known := keysOf(section)
	homes := sectionsWith(name)
	var remedy string
	switch {
	case len(homes) > 0:
		remedy = "it belongs under " + strings.Join(homes, " or ")
	default:
		remedy = "it has " + strings.Join(known, ", ")
	}
	return fmt.Sprintf("[%s] has no key %.40q; %s", section, name, remedy)
}

// noKeyOutside is said of a key above the first section.
func noKeyOutside(name string) string {
	homes := sectionsWith(name)
	if len(homes) == 0 {
		return fmt.Sprintf("%.40q stands above the first section, and none has such a key; there are %s", name, bracketed(sections()))
	}
	return fmt.Sprintf("%q stands above the first section; it belongs under %s", name, strings.Join(homes, " or "))
}

func bracketed(names []string) string { return "[" + strings.Join(names, "], [") + "]" }
