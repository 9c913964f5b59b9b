package sqlite

import "context"

// WriterPragma returns the value of a setting of the writer's connection, which
// nobody else can see.
func (s *Store) WriterPragma(ctx context.Context, name string) (value string, err error) {
	return value, s.writer.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
}

// ReaderPragma is the same of a reader's connection.
func (s *Store) ReaderPragma(ctx context.Context, name string) (value string, err error) {
	return value, s.readers.QueryRowContext(ctx, "PRAGMA "+name).Scan(&value)
}
