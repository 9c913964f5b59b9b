package main

import (
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tokend/config"
)

// warnOfNames tells of each rule for names whom it lets in as whom.
func (n *node) warnOfNames() {
	for _, merged := range names(n.cfg.Names).Merged() {
		n.log.Warn("several iRODS users come in with the same tokens", "names", merged)
	}
}

// warnOfPlaces looks at the way to all that the daemon trusts.
func (n *node) warnOfPlaces() {
	for _, warning := range exposed(n.cfg) {
		n.log.Warn("others on the network could stand in for a server", "because", warning)
	}
	n.warnOfNames()
	database := strings.TrimPrefix(n.cfg.Store.URL, "sqlite:")
	if config.IsPostgreSQL(database) {
		database = ""
	}
	for _, p := range []struct{ what, path, danger string }{
		{"configuration", n.path, "they can let themselves manage everybody's tokens"},
		{"database", database, "they can make any token good"},
		{"auth socket", n.cfg.Auth.Socket, "they can read the tokens that are sent to it, and say yes to any"},
		{"admin socket", n.cfg.Admin.Socket, "they can take commands that are meant for tokend"},
	} {
		if p.path == "" {
			continue
		}
		for _, weak := range weakPlaces(p.path) {
			n.log.Warn("other users can change or replace what tokend trusts; chmod go-w, or chown, would keep them from it",
				"what", p.what, "because", weak, "danger", p.danger)
		}
	}
}

// weakPlaces says which of the file, the links and the folders on the way to it
// others can write to, or own.
func weakPlaces(path string) (weak []string) {
	type file struct{ device, inode uint64 }
	told := map[file]bool{}
	for hop := range hops(path) {
		held := false
		for at, above := hop, ""; at != above; at, above = filepath.Dir(at), at {
			info, err := os.Lstat(at)
			if err != nil {
				continue // what is missing can be made in the folder above
			}
			holder := !held && at != hop
			held = held || holder
			stat := info.Sys().(*syscall.Stat_t)
			here := file{stat.Dev, stat.Ino}
			if why := weakness(info, holder); why != "" && !told[here] {
				told[here] = true
				weak = append(weak, at+" "+why)
			}
		}
	}
	return weak
}

// weakness is why others can do something with what is there. In a sticky folder,
// such as /tmp, they can rename only what is theirs; but they can make what is
// missing, and so it must not be the one that holds the file.
func weakness(info os.FileInfo, holder bool) string {
	kind := info.Mode().Type()
	if kind != 0 && kind != os.ModeDir && kind != os.ModeSymlink {
		return "" // a socket, which says by itself who may ask, or a device
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	sticky := kind == os.ModeDir && info.Mode()&os.ModeSticky != 0
	switch {
	case owner != 0 && owner != uint32(os.Geteuid()):
		return fmt.Sprintf("belongs to uid %d", owner)
	case kind != os.ModeSymlink && info.Mode().Perm()&0o022 != 0 && (holder || !sticky):
		return fmt.Sprintf("has mode %o", info.Mode().Perm())
	}
	return ""
}

// hops yields the path as it is spelled, and as it is after each of its links.
func hops(path string) iter.Seq[string] {
	return func(yield func(string) bool) {
		path, err := filepath.Abs(path)
		const most = 40 // as the kernel has it
		for range most {
			if err != nil || !yield(path) {
				return
			}
			path, err = follow(path)
		}
	}
}

// follow puts where it leads in the place of the first link of a path. Without a
// link it is an error.
func follow(path string) (string, error) {
	at := "/"
	names := strings.Split(strings.Trim(path, "/"), "/")
	for i, name := range names {
		target, err := os.Readlink(filepath.Join(at, name))
		if err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(at, target)
			}
			return filepath.Join(append([]string{target}, names[i+1:]...)...), nil
		}
		at = filepath.Join(at, name)
	}
	return "", os.ErrNotExist
}

// warnOfClosed tells of a socket that is open to peers in a folder which isn't.
func warnOfClosed(log *slog.Logger, socket string) {
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o066 == 0 {
		return // it is for root and the daemon's own user
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(socket))
	for above := ""; err == nil && folder != above; folder, above = filepath.Dir(folder), folder {
		if info, err := os.Stat(folder); err == nil && info.Mode().Perm()&0o011 == 0 {
			log.Warn("peers cannot get to the socket; chmod 755 would let them", "socket", socket, "folder", folder, "mode", fmt.Sprintf("%o", info.Mode().Perm()))
		}
	}
}
