package sqlite

import (
	"context"

	driver "modernc.org/sqlite"
)

// WriterPragma returns the value of a setting of the writer's connection, which
// nobody else can see.
func (s *Store) WriterPragma(ctx context.Context, name string) (value string, err error) {
	return value, s.writer.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
}

// ReaderPragma is the same of a reader's connection.
func (s *Store) ReaderPragma(ctx context.Context, name string) (value string, err error) {
	return value, s.readers.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
}

// Occupy takes the connections of all that is no login, until the context ends.
func (s *Store) Occupy(ctx context.Context) error {
	for range readerConns - 1 { // the anchor is one
		if _, err := s.readers.Conn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Reconnect has logins wait for new connections.
func (s *Store) Reconnect() {
	s.logins.SetMaxIdleConns(-1)
	s.logins.SetMaxIdleConns(loginConns)
}

// AtCommit has SQLite call f in the middle of every commit from now on.
func (s *Store) AtCommit(ctx context.Context, f func()) error {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		c.(driver.HookRegisterer).RegisterCommitHook(func() int32 { f(); return 0 })
		return nil
	})
}

// InPlace says if one of the files is not what it was.
func (s *Store) InPlace() error { return s.inPlace() }
