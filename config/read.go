package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"

	"tokend/tokend/token"
)

const (
	longestSocket = 107           // bytes in sockaddr_un, less the final NUL
	highestUser   = 1<<32 - 2     // the one above is the kernel's "no user"
	mostCount     = 1_000_000_000 // fits any int, and so does twice as much
)

func readSocket(v value) (string, error) {
	path, err := v.text("/run/tokend/auth.sock")
	switch {
	case err != nil:
		return "", err
	case !filepath.IsAbs(path):
		return "", fmt.Errorf("%.120q is not an absolute path; write one such as /run/tokend/auth.sock", path)
	case len(path) > longestSocket:
		return "", fmt.Errorf("the path has %d bytes; a socket's has at most %d", len(path), longestSocket)
	case strings.ContainsFunc(path, unicode.IsControl):
		return "", fmt.Errorf("%q has a control character; leave it out", path)
	case strings.HasSuffix(path, "/"):
		return "", fmt.Errorf("%q is a directory; add the name of the socket", path)
	}
	return path, nil
}

// Names may be those of a directory service: CORP\joe, joe@corp.example, or a
// group with a space in it. Whether this machine knows one is seen later.
var peerName = regexp.MustCompile(`^[\pL\pN_]([\pL\pN_.@\\$ -]{0,254}[\pL\pN_.@\\$-])?$`)

func readPeer(v value) (string, error) {
	peer, err := v.text("root")
	if err != nil {
		return "", err
	}
	name := strings.TrimPrefix(peer, "@")
	if !peerName.MatchString(name) {
		return "", fmt.Errorf("%.80q is no peer; write a user name, a user number, or @ and a group's name or number", peer)
	}
	if strings.Trim(name, "0123456789") == "" {
		if number, err := strconv.ParseUint(name, 10, 64); err != nil || number > highestUser {
			return "", fmt.Errorf("%.80q is past the highest number of a user or group, %d", peer, uint64(highestUser))
		}
	}
	return peer, nil
}

func readListen(v value) (string, error) { return address(v, "127.0.0.1:8480") }

var hostName = regexp.MustCompile(`^[0-9A-Za-z_.-]*$`)

func readAddress(v value) (string, error) { return address(v, "127.0.0.1:9480") }

func address(v value, example string) (string, error) {
	text, err := v.text(example)
	if err != nil || text == "" {
		return "", err
	}
	host, port, err := net.SplitHostPort(text)
	if _, notIP := netip.ParseAddr(host); err != nil || notIP != nil && !hostName.MatchString(host) {
		return "", fmt.Errorf(`%.80q is no address; write host:port, such as %s or [::1]:%s, or "" for no listener`, text, example, example[len(example)-4:])
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", fmt.Errorf("%.80q has no port from 1 to 65535; write one, such as %s", text, example)
	}
	return text, nil
}

func readCount(v value) (int, error) { return count(v, 1, mostCount) }

func readConnections(v value) (int, error) { return count(v, 2, 1000) }

func readFew(v value) (int, error) { return count(v, 1, 1000) }

func readBool(v value) (bool, error) {
	if v.kind != unstable.Bool {
		return false, v.not("true or false, without quotes")
	}
	return v.raw == "true", nil
}

func count(v value, least, most int64) (int, error) {
	if v.kind != unstable.Integer {
		return 0, v.not("a whole number without quotes, such as 50")
	}
	number, err := strconv.ParseInt(v.raw, 0, 64)
	if err != nil || number < least || number > most {
		return 0, fmt.Errorf("%.40s is out of range; write %d to %d", v.raw, least, most)
	}
	return int(number), nil
}

func readTTL(v value) (time.Duration, error) {
	return duration(v, 1, time.Hour, "more than 0s and at most 1h")
}

func readStale(v value) (time.Duration, error) {
	return duration(v, 0, 24*time.Hour, "0s (off) or more and at most 24h")
}

func duration(v value, least, most time.Duration, allowed string) (time.Duration, error) {
	text, err := v.text("60s")
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil && text != "" && strings.Trim(text, "0123456789") == "":
		return 0, fmt.Errorf("%.40[1]q has no unit; write %.40[1]ss or %.40[1]sm", text)
	case err != nil:
		return 0, fmt.Errorf("%.40q is no duration; write hours, minutes and seconds, such as 60s, 10m or 1h30m", text)
	case d < least || d > most:
		return 0, fmt.Errorf("%.40q is out of range; write %s", text, allowed)
	}
	return d, nil
}

func readLife(v value) (token.Life, error) {
	text, err := v.text("30d")
	if err != nil {
		return 0, err
	}
	switch {
	case text == "never" || text != "" && strings.Trim(text, "0") == "":
		return token.Forever, nil
	case text != "" && strings.Trim(text, "0123456789") == "": // hours on the command line, but beside "30d" easily days
		return 0, fmt.Errorf("%.40[1]q has no unit; write %.40[1]sh or %.40[1]sd", text)
	case !lifeWithUnits.MatchString(text):
		return 0, fmt.Errorf("%.40q is no expiry; write a duration (90m, 36h, 30d, 2w), or never", token.Redact(text))
	}
	return token.ParseLife(text)
}

var lifeWithUnits = regexp.MustCompile(`^([0-9]+[smhdw])+$`)

func readFormat(v value) (string, error) { return word(v, "text", "json") }

// readLevel knows none above info, at which verdicts and changes are told: without
// them nobody could say why a login was refused.
func readLevel(v value) (slog.Level, error) {
	text, err := word(v, "debug", "info")
	if err != nil {
		return 0, err
	}
	var level slog.Level
	err = level.UnmarshalText([]byte(text))
	return level, err
}

// word reads one of the words.
func word(v value, words ...string) (string, error) {
	text, err := v.text(words[0])
	if err == nil && !slices.Contains(words, text) {
		err = fmt.Errorf("%.40q is none of %s", text, strings.Join(words, ", "))
	}
	return text, err
}
