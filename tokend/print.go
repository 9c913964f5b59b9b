package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"tokend/tokend/token"
	"tokend/tokend/web"
)

// How a time is shown to people, in their time zone and with it: the log is in UTC.
const (
	minute = "2006-01-02 15:04 MST"
	second = "2006-01-02 15:04:05 MST"
)

// soon is when a coming expiry stands out.
const soon = 7 * 24 * time.Hour

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// shown is what the owner recognises the token by.
func shown(t web.Token) string {
	if t.Scheme != token.Own {
		return t.Hint + "…"
	}
	return token.Prefix + t.Hint + "…"
}

// printTokens draws the table; on a terminal what is over is dim, and what ends
// soon is yellow.
func printTokens(w io.Writer, tokens []web.Token) error {
	head := "ID\tUSER\tTOKEN\tSTATE\tCREATED\tEXPIRES\tLAST USED\tLABEL"
	use := slices.ContainsFunc(tokens, func(t web.Token) bool { return t.Use != "irods" }) // else they are all alike
	if use {
		head = strings.Replace(head, "\tSTATE", "\tUSE\tSTATE", 1)
	}
	rows, shades := []string{head}, []string{bold}
	for _, t := range tokens {
		cells := []string{t.ID, printable(t.User), shown(t)}
		if use {
			cells = append(cells, t.Use)
		}
		cells = append(cells, state(t), t.Created.Local().Format(minute), day(t.Expires), lastUsed(t), printable(t.Label))
		rows, shades = append(rows, strings.Join(cells, "\t")), append(shades, shade(t))
	}
	return printTable(w, rows, shades)
}

// lastUsed is when a token was, and for what, if that is not iRODS.
func lastUsed(t web.Token) string {
	switch {
	case t.Used == nil:
		return "-"
	case t.UsedBy == "api":
		return t.Used.Local().Format(minute) + " by the API"
	}
	return t.Used.Local().Format(minute)
}

// state is why a token opens nothing, or active.
func state(t web.Token) string {
	if t.State == token.Active && t.UserDisabled {
		return "user disabled"
	}
	return string(t.State)
}

func printUsers(w io.Writer, users []web.User) error {
	rows, shades := []string{"USER\tACTIVE\tSTATE"}, []string{bold}
	for _, u := range users {
		state, colour := "enabled", plain
		if u.Disabled != nil {
			state, colour = "disabled since "+u.Disabled.Local().Format(minute), dim
		}
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s", printable(u.Name), u.Tokens, state))
		shades = append(shades, colour)
	}
	return printTable(w, rows, shades)
}

func printEvents(w io.Writer, events []web.Event) error {
	rows, shades := []string{"TIME\tBY\tWHAT\tUSER\tTOKEN\tDETAIL"}, []string{bold}
	for _, e := range events {
		rows = append(rows, strings.Join([]string{
			e.At.Local().Format(second), printable(e.Actor), string(e.Action), printable(e.User), e.Token, printable(e.Detail),
		}, "\t"))
		shades = append(shades, plain)
	}
	return printTable(w, rows, shades)
}

const (
	plain  = ""
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

func shade(t web.Token) string {
	switch {
	case state(t) != string(token.Active):
		return dim
	case t.Expires != nil && time.Until(*t.Expires) < soon:
		return yellow
	}
	return plain
}

// printTable lines up the columns, then colours whole rows.
func printTable(w io.Writer, rows, shades []string) error {
	var table bytes.Buffer
	columns := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(columns, row)
	}
	if err := columns.Flush(); err != nil {
		return err
	}
	colour := isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	for i, line := range strings.SplitAfter(strings.TrimSuffix(table.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " \n")
		if colour && shades[i] != plain {
			line = shades[i] + line + reset
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// day shows an expiry and how far off it is.
func day(t *time.Time) string {
	if t == nil {
		return "never"
	}
	left := time.Until(*t)
	ago, in := "", "in "
	if left < 0 {
		left, ago, in = -left, " ago", ""
	}
	return fmt.Sprintf("%s (%s%s%s)", t.Local().Format(minute), in, roughly(left, *t), ago)
}

// roughly says how far off the time is, which is d. A Duration ends after 292
// years: so far off, the calendar's count.
func roughly(d time.Duration, at time.Time) string {
	const year = 8766 * time.Hour
	switch {
	case d > 250*year:
		return fmt.Sprintf("%d years", at.Year()-time.Now().Year())
	case d > 2*year:
		return fmt.Sprintf("%d years", d/year)
	}
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int((d + unit.size/2) / unit.size); n > 1 || n == 1 && unit.size == time.Minute {
			return fmt.Sprintf("%d %s%s", n, unit.name, strings.Repeat("s", min(n-1, 1)))
		}
	}
	return "a moment"
}

// printable quotes a text that would do something to the terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func quoted(before, s string) string {
	if s == "" {
		return ""
	}
	return before + strconv.Quote(s)
}

// leadsNowhere reports whether nobody sees what is written: where a program is
// started with the standard output closed, Go opens /dev/null in its place.
func leadsNowhere(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	to, err := f.Stat()
	null, errNull := os.Stat(os.DevNull)
	return err != nil || errNull == nil && os.SameFile(to, null)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
