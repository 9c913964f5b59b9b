package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"tokend/tokend/token"
)

// readKnox never quotes the value, as readStore doesn't.
func readKnox(v value) (string, error) {
	text, err := v.text("postgres://tokend@sodar.example/sodar")
	switch {
	case err != nil || text == "":
		return "", err
	case !IsPostgreSQL(text):
		return "", errors.New("write postgres://user@host/database, the database of SODAR or of another Django site with django-rest-knox")
	}
	return text, CheckPostgreSQL(text)
}

// longestName is how many bytes PostgreSQL's names have at most.
const longestName = 63

var (
	tableName  = regexp.MustCompile(`^[^."\x00-\x1f]+(\.[^."\x00-\x1f]+)?$`)
	columnName = regexp.MustCompile(`^[^."\x00-\x1f]+$`)
	knoxPrefix = regexp.MustCompile(`^[!-~]*$`)
)

func readTable(v value) (string, error) {
	text, err := v.text("knox_authtoken")
	if err == nil && text != "" && (!tableName.MatchString(text) || len(text) > 2*longestName+1) {
		err = fmt.Errorf("%.80q is no table's name; write it as it is, without quotes in it, such as knox_authtoken or schema.knox_authtoken", token.Redact(text))
	}
	return text, err
}

func readColumn(v value) (string, error) {
	text, err := v.text("username")
	if err == nil && text != "" && (!columnName.MatchString(text) || len(text) > longestName) {
		err = fmt.Errorf("%.80q is no column's name; write it as it is, such as username", token.Redact(text))
	}
	return text, err
}

func readScheme(v value) (string, error) {
	if v.kind == unstable.String && v.raw == "" {
		return "", nil
	}
	return word(v, "4.2", "5")
}

func readPrefix(v value) (string, error) {
	text, err := v.text("irods_")
	switch {
	case err != nil:
		return "", err
	case len(text) > token.MaxKnoxPrefix || !knoxPrefix.MatchString(text):
		return "", fmt.Errorf("%.40q is too long, or has a blank or a character beyond ASCII; write the site's TOKEN_PREFIX, of at most %d characters", token.Redact(text), token.MaxKnoxPrefix)
	case strings.HasPrefix(text, token.Prefix):
		return "", fmt.Errorf("tokens that begin with %s are tokend's own; give Knox another TOKEN_PREFIX", token.Prefix)
	}
	return text, nil
}

func readRefresh(v value) (time.Duration, error) {
	return duration(v, time.Second, time.Hour, "1s to 1h")
}

func readRule(v value) (token.NameRule, error) {
	text, err := v.text(`(.+)@B\\.ORG -> $1@b.org`)
	if err != nil {
		return token.NameRule{}, err
	}
	return token.ParseNameRule(text)
}

func readDomainCase(v value) (token.DomainCase, error) {
	text, err := word(v, string(token.KeepCase), string(token.UpperCase), string(token.LowerCase))
	return token.DomainCase(text), err
}

// compareKnox judges the keys of [knox] and [sodar] that depend on others.
func (f *file) compareKnox() {
	otherwise := Default()
	for _, name := range keysOf("knox") {
		k, _ := find("knox." + name)
		imported := name == "prefix" // of tokens that have been
		if f.config.Knox.URL == "" && !f.keys["knox.url"].bad && !imported && !k.same(&f.config, &otherwise) {
			f.problem(f.keys[k.name].at, "[knox] %s: there is no [knox] url that it is about; write that, or leave it out", name)
		}
	}
	if f.config.Knox.Scheme == "4.2" && f.config.Knox.Prefix != "" {
		f.problem(f.keys["knox.prefix"].at, "[knox] prefix: Knox 4.2 has none; leave it out")
	}
	if endpoint := f.keys["sodar.endpoint"]; f.config.SODAR.Endpoint && f.config.HTTP.Listen == "" && !f.keys["http.listen"].bad {
		f.problem(endpoint.at, `[sodar] endpoint: nothing listens for it; write [http] listen, such as "127.0.0.1:8480"`)
	}
	metrics, listen := f.keys["http.metrics"], f.keys["http.listen"]
	if h := f.config.HTTP; f.config.SODAR.Endpoint && !metrics.bad && !listen.bad && overlap(h.Metrics, h.Listen) {
		f.problem(max(metrics.at, listen.at), "[http] metrics and [http] listen, %q and %q, are the same address; give each its own", h.Metrics, h.Listen)
	}
}

// overlap reports whether only one of two addresses can be had.
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil { // one is none
		return false
	}
	ipA, everyA := ofHost(hostA)
	ipB, everyB := ofHost(hostB)
	same := strings.EqualFold(hostA, hostB) || ipA.IsValid() && ipA == ipB
	return strings.TrimLeft(portA, "0") == strings.TrimLeft(portB, "0") && (same || everyA || everyB)
}

// ofHost is its IP address, as far as that is known without asking anybody, and whether it stands for all of the machine.
func ofHost(host string) (ip netip.Addr, every bool) {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, host == ""
	}
	ip = ip.Unmap()
	return ip, ip.IsUnspecified()
}
