package token

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Life is how long a token may live, in whole seconds; 0 is no end. It reaches
// to the year 9999, further than a time.Duration.
type Life int64

// Forever is the Life of a token that never expires.
const Forever Life = 0

const (
	minute Life = 60
	hour        = 60 * minute
	day         = 24 * hour

	longest  = 10_000 * 366 * day
	lastYear = 9999
)

// ParseLife reads a whole number of hours ("24"), a duration ("90m", "36h",
// "30d", "2w", also joined: "1d12h"), or "0" or "never" for no end.
func ParseLife(text string) (Life, error) {
	if text == "never" {
		return Forever, nil
	}
	rest := text
	if rest != "" && strings.Trim(rest, "0123456789") == "" {
		rest += "h"
	}
	bad := rest == ""
	var life Life
	for rest != "" && !bad {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if bad = digits == 0 || digits == len(rest) || lifeUnit(rest[digits]) == 0; bad {
			break
		}
		unit := lifeUnit(rest[digits])
		count, err := strconv.ParseInt(rest[:digits], 10, 64)
		if err != nil || Life(count) > (longest-life)/unit {
			return 0, fmt.Errorf("the expiry %.40q lies past the year %d; for no end write never", text, lastYear)
		}
		life += Life(count) * unit
		rest = rest[digits+1:]
	}
	if life == Forever && !bad && strings.Trim(text, "0") != "" { // "0h", but not "0"
		return 0, fmt.Errorf("the expiry %.40q is no time at all; for no end write never", text)
	}
	if bad {
		return 0, fmt.Errorf("%.40q is no expiry: write hours (24), a duration (90m, 36h, 30d, 2w), or never", Redact(text))
	}
	return life, nil
}

func lifeUnit(c byte) Life {
	switch c {
	case 's':
		return 1
	case 'm':
		return minute
	case 'h':
		return hour
	case 'd':
		return day
	case 'w':
		return 7 * day
	}
	return 0
}

// String writes the life as ParseLife reads it, in the largest unit that is
// exact: "never", "30d", "36h".
func (l Life) String() string {
	switch {
	case l == Forever:
		return "never"
	case l%day == 0:
		return fmt.Sprintf("%dd", l/day)
	case l%hour == 0:
		return fmt.Sprintf("%dh", l/hour)
	case l%minute == 0:
		return fmt.Sprintf("%dm", l/minute)
	}
	return fmt.Sprintf("%ds", l)
}

// From returns when a life that begins at the given time ends. Forever ends at
// the zero time; an end past the year 9999 is an error that says so.
func (l Life) From(begin time.Time) (time.Time, error) {
	if l == Forever {
		return time.Time{}, nil
	}
	end := l.after(begin)
	if end.Year() > lastYear {
		return time.Time{}, fmt.Errorf("an expiry of %s lies past the year %d; for no end write never", l, lastYear)
	}
	return end, nil
}

func (l Life) after(begin time.Time) time.Time {
	return Time(time.Unix(begin.Unix()+int64(l), int64(begin.Nanosecond())))
}
