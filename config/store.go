package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// readStore never quotes the value: it may be an URL with a password all the same.
func readStore(v value) (string, error) {
	text, err := v.text("sqlite:/var/lib/tokend/tokend.db")
	if err != nil {
		return "", err
	}
	if IsPostgreSQL(text) {
		return text, CheckPostgreSQL(text)
	}
	path, ok := strings.CutPrefix(text, "sqlite:")
	switch {
	case text == "": // compareStore says whether there is another
		return "", nil
	case !ok || !filepath.IsAbs(path):
		return "", errors.New(nameAStore)
	case strings.HasPrefix(path, "//"):
		return "", errors.New("write one slash behind sqlite:, not more")
	case strings.HasSuffix(path, "/"):
		return "", errors.New("the path is a directory; add the name of the database's file")
	case strings.ContainsAny(path, "?#%") || strings.ContainsFunc(path, unicode.IsControl):
		return "", errors.New("the path has a ?, #, % or control character; it takes no options and no escapes, so leave it out")
	}
	return text, nil
}

// readDirect doesn't quote it either.
func readDirect(v value) (string, error) {
	text, err := v.text("postgres://tokend@db.example/tokend")
	switch {
	case err != nil:
		return "", err
	case text == "":
		return "", nil
	case !IsPostgreSQL(text):
		return "", errors.New("write postgres://user@host/database, the address of the server itself, where url leads to a pooler before it")
	}
	return text, CheckPostgreSQL(text)
}

// IsPostgreSQL reports whether that is the store of the URL.
func IsPostgreSQL(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// postgreSQLParameters are those of libpq that mean something here. What is said to
// the server at the start of a connection, such as search_path, is not among them.
var postgreSQLParameters = []string{
	"host", "port", "user", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslsni", "target_session_attrs",
}

// sessionAttrs are those values of target_session_attrs that never ask for a standby.
var sessionAttrs = []string{"read-write", "primary", "any"}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// CheckPostgreSQL says what is wrong with the URL of a PostgreSQL database, without quoting it.
func CheckPostgreSQL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("this is no URL; write postgres://user@host:port/database, and %40 for an @ in a name")
	}
	parameters, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("what stands behind the ? is badly escaped; write name=value&name=value, and %26 for an & in a value")
	}
	if _, has := u.User.Password(); has || parameters.Has("password") {
		return errors.New("write no password into the URL; put it into a file of its own, and name that in password_file")
	}
	switch {
	case strings.Trim(u.Path, "/") == "":
		return errors.New("the URL names no database; write postgres://user@host:port/database")
	case u.User.Username() == "" && parameters.Get("user") == "":
		return errors.New("the URL names no user; write postgres://user@host:port/database")
	case u.Host == "" && parameters.Get("host") == "":
		return errors.New("the URL names no host; write postgres://user@host:port/database, or ?host=/run/postgresql for a socket")
	case u.Fragment != "":
		return errors.New("the URL has a #; write %23 if it belongs to a name")
	}
	if mode := parameters.Get("sslmode"); parameters.Has("sslmode") && !slices.Contains(sslModes, mode) {
		return fmt.Errorf("%.40q is no sslmode; there are %s", mode, strings.Join(sslModes, ", "))
	}
	if which := parameters.Get("target_session_attrs"); parameters.Has("target_session_attrs") && !slices.Contains(sessionAttrs, which) {
		return fmt.Errorf("%.40q is no target_session_attrs for this, where the primary has to answer; there are %s", which, strings.Join(sessionAttrs, ", "))
	}
	if (parameters.Get("sslcert") == "") != (parameters.Get("sslkey") == "") {
		return errors.New("sslcert and sslkey go together; write both, or neither")
	}
	for name, values := range parameters {
		if len(values) > 1 {
			return fmt.Errorf("%.40q stands %d times behind the ?; write it once", name, len(values))
		}
		if !slices.Contains(postgreSQLParameters, name) {
			return fmt.Errorf("%.40q is no parameter for this; there are %s", name, strings.Join(postgreSQLParameters, ", "))
		}
	}
	return nil
}

// readCredential reads the name of a file that holds a secret.
func readCredential(v value) (string, error) {
	name, err := v.text("/etc/tokend/store.password")
	switch {
	case err != nil:
		return "", err
	case name == "" || filepath.IsAbs(name) && !strings.HasSuffix(name, "/"):
		return name, nil
	case strings.Contains(name, "/"):
		return "", fmt.Errorf("%.120q is neither an absolute path nor the name of a credential; write one such as /etc/tokend/store.password", name)
	}
	return name, nil
}

// compareStore judges the keys of [store] that depend on others.
func (f *file) compareStore() {
	store := f.config.Store
	if f.keys["store.url"].bad || IsPostgreSQL(store.URL) {
		return
	}
	say := func(key, why string) { f.problem(f.keys["store."+key].at, "[store] %s: %s", key, why) }
	if store.PasswordFile != "" {
		say("password_file", "the database is a file, which has no password; leave it out, or name a postgres:// url")
	}
	if store.DirectURL != "" {
		say("direct_url", "the database is a file, which is always reached directly; leave it out, or name a postgres:// url")
	}
	if store.URL == "" && f.config.Knox.URL == "" && !f.keys["knox.url"].bad {
		say("url", "without it there are no tokens but those of Knox, and [knox] url names none either; "+nameAStore)
	}
}

const nameAStore = "write sqlite: and an absolute path, such as sqlite:/var/lib/tokend/tokend.db, or postgres://user@host/database"
