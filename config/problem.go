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
	if near := nearest(name, sections()); near != "" {
		return fmt.Sprintf("there is no section %.40q; did you mean [%s]?", name, near)
	}
	return fmt.Sprintf("there is no section %.40q; there are %s", name, bracketed(sections()))
}

func noKey(section, name string) string {
	known := keysOf(section)
	homes := sectionsWith(name)
	near := nearest(name, known)
	var remedy string
	switch {
	case section == "store" && len(homes) > 0 && strings.HasSuffix(name, "_file"): // of the cache's TLS
		remedy = "for TLS, write ?sslmode=verify-full&sslrootcert=/path into its url (also sslcert and sslkey)"
	case len(homes) > 0:
		remedy = "it belongs under " + strings.Join(homes, " or ")
	case near != "":
		remedy = fmt.Sprintf("did you mean %q?", near)
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

// nearest returns the known name of which at most a third is mistyped, or ""
// where none is so near.
func nearest(name string, known []string) string {
	near, least := "", 0
	for _, k := range known {
		limit := max(1, len(k)/3)
		if len(name) > len(k)+limit {
			continue
		}
		d := distance(strings.ToLower(name), k)
		if d <= limit && (near == "" || d < least) {
			near, least = k, d
		}
	}
	return near
}

// distance is how many bytes to insert, remove or replace, or neighbours to
// swap, to make b of a (the optimal string alignment).
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			replace := d[i-1][j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			d[i][j] = min(replace, d[i-1][j]+1, d[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
