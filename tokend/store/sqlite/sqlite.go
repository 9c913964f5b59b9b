// Package sqlite keeps tokens in one SQLite file, for one daemon: the store
// that needs no server. A change that it has acknowledged survives kill -9 and
// power loss. What all stores promise is in storetest; the judging of tokens
// is verify's.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"modernc.org/sqlite"

	"tokend/tokend/store"
)

// Config says which file to open.
type Config struct {
	// Path of the database. The file is made if it is missing, readable to its
	// owner only, and so is its directory. SQLite keeps two more beside it,
	// Path-wal and Path-shm. Where the path is a link, they are beside what it
	// leads to.
	Path string
	// Logger hears of a new or upgraded schema, and of what is odd about the
	// file. Nil: nobody does.
	Logger *slog.Logger
	// Registerer exports the metrics. Nil: nobody does.
	Registerer prometheus.Registerer
}

// Store is an open database. Its methods may be called concurrently. A change
// that ends with an error was not made; only where the context or the method's
// own time has ended, or a file was taken away meanwhile, may it have been.
type Store struct {
	named   string                 // the path as it is spelled
	path    string                 // where its links lead, and SQLite has its files
	file    *os.File               // keeps other daemons out
	wal     *os.File               // the same: one may have been opened over a file that is gone
	shm     *os.File               // tells of what is in the -wal
	opened  map[string]fs.FileInfo // what must stay in its place, by path
	seen    atomic.Pointer[frame]  // the last one in the -wal when it was looked at
	writer  *sql.DB                // one connection: SQLite has one writer at a time
	readers *sql.DB
	logins  *sql.DB   // readers that nothing else waits for
	lookup  *sql.Stmt // on logins
	anchor  *sql.Conn // never closed before the store, so that SQLite keeps the -wal
	metrics *store.Metrics
	closed  bool
}

// Open opens the database, makes it if it is missing, and upgrades its schema.
// No other daemon can open it until Close or the end of the process; that one
// gets store.ErrLocked. A schema that is newer than this program's is refused
// with a *store.NewerSchemaError. Where nothing can be written, or no file made beside
// it (a read-only or full file system, a quota, a folder's rights), a database with
// the current schema opens for reading, until it is opened again.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil || cfg.Path == "" {
		return nil, errors.Join(errors.New("open the database: it has no path"), err)
	}
	s := &Store{named: path, path: resolved(path)}
	if err := s.open(ctx, log); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = notOurs(err)
		}
		return nil, fmt.Errorf("open %s: %w", path, errors.Join(err, s.Close())) //nolint:contextcheck // ctx may have ended
	}
	s.metrics = store.NewMetrics(cfg.Registerer)
	return s, nil
}

func (s *Store) open(ctx context.Context, log *slog.Logger) error {
	if err := makeDirectory(filepath.Dir(s.named)); err != nil {
		return err
	}
	if err := s.checkLeft(); err != nil { // before a file is made
		return err
	}
	file, mode, err := openFile(s.path, log)
	if err != nil {
		return err
	}
	s.file = file
	if err := errors.Join(s.checkMount(), s.checkCompanions(), s.checkLeft()); err != nil {
		return err
	}
	if err := s.lockWAL(); err != nil && !errors.Is(err, fs.ErrNotExist) { // before SQLite reads it
		return err
	}
	err = s.connect(ctx, mode, log)
	if mode != readWrite || !errors.Is(err, store.ErrUnwritable) {
		return err
	}
	log.Warn("the database cannot be opened for changes", "path", s.path, "err", err)
	if s.reconnectReadOnly(ctx, log) != nil {
		return err
	}
	return nil
}

func (s *Store) reconnectReadOnly(ctx context.Context, log *slog.Logger) error {
	if err := s.disconnect(); err != nil { // which may fold the -wal into the file
		return err
	}
	mode, err := readOnlyAccess(s.path)
	if err != nil {
		return err
	}
	if mode != readOnly {
		if err := lockOut(s.file); err != nil {
			log.Warn("another program has the database open: what it changes is not noticed", "path", s.path, "err", err)
		}
	}
	return s.connect(ctx, mode, log)
}

func (s *Store) connect(ctx context.Context, mode access, log *slog.Logger) (err error) {
	for _, pool := range []struct {
		db    **sql.DB
		name  string
		conns int
	}{
		{&s.readers, readerName(s.path, mode), readerConns},
		{&s.logins, readerName(s.path, mode), loginConns},
		{&s.writer, writerName(s.path, mode), 1},
	} {
		*pool.db = sql.OpenDB(connector{s, pool.name})
		(*pool.db).SetMaxOpenConns(pool.conns)
		(*pool.db).SetMaxIdleConns(pool.conns)
	}
	if err := s.upgrade(ctx, mode, log); err != nil {
		return explain(s.path, err)
	}
	if s.lookup, err = s.logins.PrepareContext(ctx, lookupByDigest); err != nil {
		return explain(s.path, err)
	}
	if s.anchor, err = s.readers.Conn(ctx); err != nil {
		return explain(s.path, err)
	}
	if err := touch(ctx, s.anchor); err != nil {
		return explain(s.path, err)
	}
	if err := openAll(ctx, s.logins, loginConns); err != nil {
		return explain(s.path, err)
	}
	if mode == readWrite {
		if err := s.lockWAL(); err != nil {
			return err
		}
	}
	return s.remember(mode)
}

// lockWAL locks the -wal that is there now. A daemon that was started on what took
// another's file's place shares that one's -wal, and would lose what it writes to it.
func (s *Store) lockWAL() error {
	file, err := os.OpenFile(s.path+"-wal", os.O_RDONLY|syscall.O_NONBLOCK, 0) // whatever stands there
	if err != nil {
		return err
	}
	if s.wal != nil && sameFile(file, s.wal) {
		return file.Close()
	}
	if err := lock(file); err != nil {
		return errors.Join(err, file.Close())
	}
	if s.wal != nil { // SQLite removed it, because the database was new
		err = s.wal.Close()
	}
	s.wal = file
	return err
}

func sameFile(a, b *os.File) bool {
	infoA, errA := a.Stat()
	infoB, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// openAll opens as many connections as the pool may have, and has each read from
// the files while they are known to be in their place.
func openAll(ctx context.Context, db *sql.DB, conns int) error {
	for range conns {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // it goes back to the pool
		if err := touch(ctx, conn); err != nil {
			return err
		}
	}
	return nil
}

// touch has a connection open all files that it needs.
func touch(ctx context.Context, conn *sql.Conn) error {
	var tables int
	return conn.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables)
}

// connector opens connections to the files that the store has open, and to none
// that took their place: what one of them says would be mixed with the others'.
type connector struct {
	store *Store
	name  string
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	if err := c.store.inPlace(); err != nil {
		return nil, err
	}
	conn, err := c.Driver().Open(c.name)
	if err != nil {
		return nil, err
	}
	if err := c.store.inPlace(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return new(sqlite.Driver) }

// disconnect leaves s.lookup to its connections: to close it would be to wait
// for a look-up that hangs.
func (s *Store) disconnect() error {
	var errs []error
	if s.anchor != nil {
		if err := s.anchor.Close(); !errors.Is(err, sql.ErrConnDone) { // a second time
			errs = append(errs, err)
		}
	}
	for _, db := range []*sql.DB{s.logins, s.readers, s.writer} { // the last one folds the -wal into the file
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Close ends all work on the database and gives it free for another daemon. Where
// a file is not in its place and has changes to lose, or the -wal was cut short, that is
// left to the end of the process, and an error says so. Closing twice is no error.
func (s *Store) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.anchor != nil && s.inPlace() != nil {
		s.letGo()
		err = s.setAside()
	}
	switch { // SQLite would fold the -wal into the file, too: the end of the process doesn't
	case err != nil:
		return err
	case s.strayed():
		return fmt.Errorf("%s-shm was moved or removed, or its folder closed: %[1]s is left as it is, for the next start to clear up", s.path)
	case s.cut():
		return fmt.Errorf("%s-wal was cut short: %[1]s is left as it is, for the next start to take what is whole", s.path)
	}
	if s.anchor != nil {
		err = s.leftBehind()
	}
	err = errors.Join(err, s.disconnect())
	for _, file := range []*os.File{s.shm, s.wal, s.file} {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}
	return err
}

const (
	readerConns   = 3 // the anchor included
	loginConns    = 4
	lookupTimeout = time.Second
	otherTimeout  = 5 * time.Second

	// grace is how long a request waits for the driver after its time is up. A
	// healthy driver answers at once, and then it is known what became of a
	// change; one that hangs in a dead disk is left behind.
	grace = 100 * time.Millisecond
)

type answer[T any] struct {
	value T
	err   error
}

// do runs f within the operation's timeout, measures it, and explains its
// error. It returns even when f does not.
func do[T any](ctx context.Context, s *Store, op store.Operation, f func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	timeout := otherTimeout
	if op == store.Lookup {
		timeout = lookupTimeout
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers := make(chan answer[T], 1)
	go func() {
		value, err := f(within)
		answers <- answer[T]{value, err}
	}()
	var a answer[T]
	select {
	case a = <-answers:
	case <-within.Done():
		select {
		case a = <-answers:
		case <-time.After(grace):
			a.err = within.Err()
		}
	}
	if a.err != nil && within.Err() != nil && ended(a.err) {
		a.err = ctx.Err()
		if a.err == nil {
			a.err = fmt.Errorf("no answer from %s within %s: %w", s.path, timeout, within.Err())
		}
	}
	s.metrics.Observe(op, time.Since(began), a.err)
	if a.err != nil {
		var none T
		return none, fmt.Errorf("%s: %w", op, explain(s.path, a.err))
	}
	return a.value, nil
}
