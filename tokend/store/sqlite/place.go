package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tokend/tokend/store"
)

// remember notes which files are open, and opens the -shm, which must stay open for as
// long as SQLite has it: closing it would take SQLite's own locks away.
func (s *Store) remember(mode access) error {
	paths := []string{s.named, s.path}
	if mode == readWrite {
		paths = append(paths, s.path+"-wal", s.path+"-shm")
	}
	opened := map[string]fs.FileInfo{}
	for _, path := range paths {
		info, err := s.stat(path)
		if err != nil {
			return err
		}
		opened[path] = info
	}
	s.opened = opened
	if mode != readWrite {
		return nil
	}
	shm, err := os.Open(s.path + "-shm")
	s.shm = shm
	return err
}

// stat is about the file itself: a link to it, left where it was, leads SQLite at the
// next start to a place where the -wal is not. Only the path as it is spelled may have links.
func (s *Store) stat(path string) (fs.FileInfo, error) {
	if path == s.named && path != s.path {
		return os.Stat(path)
	}
	return os.Lstat(path)
}

// inPlace refuses to go on with a file that was moved or replaced: what is
// written to it now, the next daemon would not find.
func (s *Store) inPlace() error {
	for path, file := range s.opened {
		info, err := s.stat(path)
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: it can no more be seen whether %s is in its place; give its folder back to the user with uid %d (chown, chmod 700): %w",
				store.ErrUnwritable, path, os.Geteuid(), err)
		}
		if err != nil || !os.SameFile(info, file) {
			return fmt.Errorf("%w: %s was moved or replaced while tokend had it open; put it back, "+
				"or start tokend again to work with what is there now", store.ErrUnwritable, path)
		}
	}
	if s.cut() {
		return fmt.Errorf("%w: %s-wal was cut short while tokend had it open; the changes in it are lost, which of a new database are all, and look-ups may fail; "+
			"start tokend again to work with what is left, or restore a backup, and revoke again what the log says was revoked", store.ErrUnwritable, s.path)
	}
	return nil
}

// letGo folds the -wal into the file that was moved or replaced, where it belongs:
// left behind, it would be applied to what has taken the file's place. A file that is
// gone, because it was copied elsewhere and removed, would take its changes with it.
// The anchor does it, because the writer's connection may be gone.
func (s *Store) letGo() {
	if s.strayed() || s.cut() || s.newPlace() == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), otherTimeout)
	defer cancel()
	_, _ = s.anchor.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`) // setAside looks whether it did
}

// newPlace is where the file is by the name it was opened by, wherever that was moved;
// empty when that name is gone, though another link may lead to the file.
func (s *Store) newPlace() string {
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.file.Fd())) // ends in " (deleted)" when it is gone
	if err != nil {
		return ""
	}
	here, err := s.file.Stat()
	if info, errThere := os.Stat(path); err != nil || errThere != nil || !os.SameFile(here, info) {
		return ""
	}
	return path
}

// leftBehind tells that the -wal was folded into a file that was moved: what took its
// place may be a copy made before.
func (s *Store) leftBehind() error {
	if place := s.newPlace(); place != "" && s.moved(s.path) {
		return fmt.Errorf("%s was moved or replaced while tokend had it open: its last changes are in %s, and in nothing that took its place", s.path, place)
	}
	return nil
}

// setAside gives a -wal that could not be folded into the file that was moved, removed
// or replaced, because another program reads there or it is gone, a name by which nobody
// applies it to what has taken that file's place, and the -shm with it. See checkLeft.
func (s *Store) setAside() error {
	if s.wal == nil || !s.moved(s.path) {
		return nil
	}
	if info, err := s.wal.Stat(); err == nil && info.Size() == 0 {
		return nil
	}
	date := time.Now().UTC().Format(asideDate)
	var aside []string
	for _, path := range []string{s.path + "-wal", s.path + "-shm"} {
		if s.moved(path) {
			continue
		}
		if err := os.Rename(path, path+date); err != nil {
			return fmt.Errorf("%s was moved or replaced: before the next start, move %s to where it went: %w", s.path, path, err)
		}
		aside = append(aside, path+date)
	}
	return leftAside(s.path, aside)
}

// checkLeft refuses to start beside changes of a file that is not there. Of those that
// were set aside, only an admin knows whether it is; those in the -wal of a file that is
// missing or empty SQLite would throw away.
func (s *Store) checkLeft() error {
	file, err := os.Lstat(s.path)
	if (errors.Is(err, fs.ErrNotExist) || err == nil && file.Mode().IsRegular() && file.Size() == 0) && holdsChanges(s.path+"-wal") {
		return fmt.Errorf("it is missing or empty, and %s-wal has the last changes of what was there: put that back; "+
			"to start with a new database, move that and %[1]s-shm elsewhere", s.path)
	}
	for _, path := range s.links() { // where the file may have been, before a link was left there
		if beside := path + "-wal"; path != s.path && !sameAs(beside, s.path+"-wal") && holdsChanges(beside) {
			return fmt.Errorf("%s has the last changes of what stood there before the link to %s: if that is the file that was there, move it to %[2]s-wal; if not, elsewhere", beside, s.path)
		}
		aside, err := setAsideAt(path)
		if err == nil {
			err = leftAside(path, aside)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// links is the path as it is spelled, what it leads to if that is a link, and so on.
func (s *Store) links() []string {
	paths := []string{s.named}
	for len(paths) < 40 { // as many as the kernel follows
		last := paths[len(paths)-1]
		to, err := os.Readlink(last)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(last), to)
		}
		paths = append(paths, to)
	}
	return append(paths, s.path)
}

func setAsideAt(path string) (aside []string, err error) {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a link to nothing
		return nil, err
	}
	for _, file := range files {
		for _, companion := range []string{"-wal", "-shm"} {
			date, ok := strings.CutPrefix(file.Name(), filepath.Base(path)+companion)
			if _, err := time.Parse(asideDate, date); ok && err == nil {
				aside = append(aside, path+companion+date)
			}
		}
	}
	return aside, nil
}

func holdsChanges(wal string) bool {
	info, err := os.Stat(wal)
	return err == nil && info.Size() > walHeader
}

func sameAs(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

const asideDate = "-20060102T150405Z"

func leftAside(path string, aside []string) error {
	if len(aside) == 0 {
		return nil
	}
	return fmt.Errorf("%s was moved, removed or replaced while tokend had it open, and its last changes are in %s: before the next start, "+
		"if that file is back in its place, take the date from their names; if not, move them elsewhere", path, strings.Join(aside, " and "))
}

// strayed reports whether the -shm is not in its place: then another program may
// have made one, and what ours says of the -wal may be long past.
func (s *Store) strayed() bool { return s.moved(s.path + "-shm") }

// moved reports whether what was opened at the path is there no more.
func (s *Store) moved(path string) bool {
	file := s.opened[path]
	info, err := s.stat(path)
	return file != nil && (err != nil || !os.SameFile(info, file))
}
