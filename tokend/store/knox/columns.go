package knox

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// column is one of a table.
type column struct {
	spelled  string // its name as SQL writes it
	kind     string // and its type
	oid      uint32 // that type's
	length   int32  // as the catalog has it, with the type
	text     bool   // whether it is one of texts
	readable bool
}

func columnsOf(ctx context.Context, tx pgx.Tx, oid uint32) (map[string]column, error) {
	rows, err := tx.Query(ctx, `SELECT attname, quote_ident(attname), format_type(atttypid, atttypmod), atttypid, atttypmod, typcategory = 'S', has_column_privilege(attrelid, attnum, 'SELECT')
		FROM pg_attribute JOIN pg_type AS y ON y.oid = atttypid WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, oid)
	if err != nil {
		return nil, err
	}
	all := map[string]column{}
	var name string
	var c column
	_, err = pgx.ForEachRow(rows, []any{&name, &c.spelled, &c.kind, &c.oid, &c.length, &c.text, &c.readable}, func() error { all[name] = c; return nil })
	return all, err
}

// need says which of these columns are missing, or may not be read.
func (r relation) need(role string, names ...string) error {
	var missing []string
	for _, name := range names {
		if _, ok := r.columns[name]; !ok {
			missing = append(missing, name)
		}
	}
	switch closed := r.closed(names...); {
	case missing != nil:
		return drift("the table %s has no column %s: is it Knox's (django-rest-knox 4.2 to 5.0)? If its columns have other names, or another table is meant, set [knox] %s", r.name, strings.Join(missing, ", "), r.what+when(r.what == "user_table", ", username_column or active_column", ""))
	case closed != nil:
		return drift("the role may not read what it needs; have the table's owner say: %s", r.grant(role, closed))
	}
	return nil
}

// closed returns which of these columns, as SQL writes them, are there and may not be read.
func (r relation) closed(names ...string) (closed []string) {
	for _, name := range names {
		if column, ok := r.columns[name]; ok && !column.readable {
			closed = append(closed, column.spelled)
		}
	}
	return closed
}

// grant is the statement that lets the role read them.
func (r relation) grant(role string, closed []string) string {
	return fmt.Sprintf("GRANT SELECT (%s) ON %s TO %s", strings.Join(closed, ", "), r.name, role)
}

// mustBe refuses a column of another type.
func (r relation) mustBe(name, kind string) error {
	if c, ok := r.columns[name]; ok && c.kind != kind {
		return drift("the column %s of %s is %s, and not %s, as Knox and Django have it", name, r.name, c.kind, kind)
	}
	return nil
}

// mustBeText refuses a column of anything else.
func (r relation) mustBeText(name string) error {
	if c, ok := r.columns[name]; ok && !c.text {
		return drift("the column %s of %s is %s, and not text, as Knox and Django have it", name, r.name, c.kind)
	}
	return nil
}
