package main

import (
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// warnOfPlaces looks at the way to all that the daemon trusts, and to its sockets.
func (n *node) warnOfPlaces() {
	database := strings.TrimPrefix(n.cfg.Store.URL, "sqlite:")
	for _, p := range []struct{ what, path, danger string }{
		{"configuration", n.path, "they can let themselves manage everybody's tokens"},
		{"database", filepath.Dir(database), "they can make any token good"},
		{"auth socket", filepath.Dir(n.cfg.Auth.Socket), "they can read the tokens that are sent to it, and say yes to any"},
		{"admin socket", filepath.Dir(n.cfg.Admin.Socket), "they can take commands that are meant for tokend"},
	} {
		for _, weak := range weakPlaces(p.path) {
			n.log.Warn("other users can change or replace what tokend trusts; chmod go-w, or chown, would keep them from it",
				"what", p.what, "because", weak, "danger", p.danger)
		}
	}
	warnOfClosed(n.log, n.cfg.Auth.Socket)
	warnOfClosed(n.log, n.cfg.Admin.Socket)
}

// weakPlaces says which of the file and the folders on the way to it others can
// write to, or own. In a sticky folder, such as /tmp, they can rename only what is
// theirs.
func weakPlaces(path string) (weak []string) {
	for place, info := range onTheWay(path) {
		owner := info.Sys().(*syscall.Stat_t).Uid
		switch {
		case owner != 0 && owner != uint32(os.Geteuid()):
			weak = append(weak, fmt.Sprintf("%s belongs to uid %d", place, owner))
		case info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0:
			weak = append(weak, fmt.Sprintf("%s has mode %o", place, info.Mode().Perm()))
		}
	}
	return weak
}

// warnOfClosed tells of a socket that is open to peers in a folder which isn't.
func warnOfClosed(log *slog.Logger, socket string) {
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o066 == 0 {
		return // it is for root and the daemon's own user
	}
	for place, info := range onTheWay(filepath.Dir(socket)) {
		if info.Mode().Perm()&0o011 == 0 {
			log.Warn("peers cannot get to the socket; chmod 755 would let them", "socket", socket, "folder", place, "mode", fmt.Sprintf("%o", info.Mode().Perm()))
		}
	}
}

// onTheWay yields what is there of the path, from its end up to the root, as it is
// spelled and where its links lead.
func onTheWay(path string) iter.Seq2[string, os.FileInfo] {
	return func(yield func(string, os.FileInfo) bool) {
		seen := map[string]bool{}
		for _, place := range []string{path, resolved(path)} {
			for ; !seen[place]; place = filepath.Dir(place) {
				seen[place] = true
				if info, err := os.Stat(place); err == nil && !yield(place, info) {
					return
				}
			}
		}
	}
}

// resolved is where the links of a path lead, as far as it is there.
func resolved(path string) string {
	for {
		real, err := filepath.EvalSymlinks(path)
		if err == nil || path == filepath.Dir(path) {
			return real
		}
		path = filepath.Dir(path)
	}
}
