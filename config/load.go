package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const maxSize = 1 << 20

// Origin is what was found where a configuration was looked for.
type Origin int

// Every Origin there is.
const (
	Absent Origin = iota // there is no file
	Empty                // there is nothing in it
	File
)

// Load reads the file at path. An absent file is as good as an empty one: all
// defaults. A file that cannot be read, a directory and a link to nothing are
// errors, and so is what Parse refuses.
func Load(path string) (Config, Origin, error) {
	data, err := read(path)
	if err != nil {
		return Config{}, Absent, err
	}
	origin := File
	switch {
	case data == nil:
		origin = Absent
	case len(bytes.TrimSpace(data)) == 0:
		origin = Empty
	}
	cfg, err := Parse(path, data)
	return cfg, origin, err
}

// read returns what is in the file, or nil where there is none.
func read(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("the name of the configuration file is empty; give its path")
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return nil, fmt.Errorf("%s is a link to nothing; mend it, or remove it for the defaults", path)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; let the user that runs tokend read it, or name another file", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("%s is a directory; name the file, such as %s", path, filepath.Join(path, "tokend.toml"))
	}
	if err != nil {
		return nil, fmt.Errorf("%w; mend that, or name another file", err)
	}
	return data, nil
}

// Parse reads the text of a configuration file; name is what its errors call
// the file. The error has one line for each problem, in the file's order:
//
//	tokend.toml:12:1: [auth] has no key "peer"; did you mean "peers"?
//
// Line and column count from 1, the column in bytes. Where the text is no TOML,
// nothing behind that place is judged.
func Parse(name string, data []byte) (Config, error) {
	if len(data) > maxSize {
		return Config{}, fmt.Errorf("%s is larger than 1 MiB, which no configuration of tokend is; name another file", name)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors begin a file with it
	f := file{data: data, config: Default(), sections: map[string]int{}, keys: map[string]setting{}}
	if f.walk() {
		f.compare()
	}
	if len(f.problems) == 0 {
		f.check()
	}
	if err := f.err(name); err != nil {
		return Config{}, err
	}
	return f.config, nil
}
