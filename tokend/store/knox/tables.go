package knox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tokend/tokend/store/server"
	"tokend/tokend/token"
)

// tables is what was found.
type tables struct {
	name, users string
	scheme      token.Scheme
	lookup      string // the statement that looks tokens up
	active      string // the one that says whether a user may log in
	all         string // the one that reads all, for those who move them
	labelled    bool   // whether the labels can be read
	dated       bool   // whether it can be read when each token was made
	grant       string // that lets the rest of both be read; empty: there is none
}

// Where Django's sites have them, the first first: SODAR from 1.3 on has a table of its own.
var (
	tokensTables = []string{"tokens_sodarauthtoken", "knox_authtoken"}
	usersTables  = []string{"users_user", "auth_user"}
)

// errSalted is what Knox 4.1 and older leave: no look-up by digest finds anything there.
var errSalted = drift("its tokens are salted, as Knox 4.1 and older keep them, so that none can be looked up: upgrade django-rest-knox to 4.2 or later (SODAR to 1.0 or later), and have the users make new tokens")

// find looks for the tables, and notes what it finds. The errors are the same as Err's.
func (s *Store) find(ctx context.Context) error {
	s.finding.Lock()
	defer s.finding.Unlock()
	before := s.found.Load()
	var t *tables
	err := server.Within(ctx, findTimeout, func(ctx context.Context) (err error) {
		t, err = server.Again(ctx, s.pool, func() (*tables, error) { return s.look(ctx) })
		return err
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
	case errors.Is(err, token.ErrDrift):
	case before.tables != nil && before.err == nil:
		return nil // that there is no answer says nothing of the tables, and each look-up says that itself
	default:
		err = server.Explain(s.names, err)
	}
	now := &found{t, err}
	s.found.Store(now)
	switch {
	case err == nil && (before.err != nil || *before.tables != *t):
		s.log.InfoContext(ctx, "tokens of Knox are read", "table", t.name, "users", t.users, "scheme", t.schemeName())
	case err != nil && (before.err == nil || before.err.Error() != err.Error()):
		s.log.WarnContext(ctx, "tokens of Knox cannot be read: their logins are refused as unavailable", "err", err)
	}
	return err
}

func (t *tables) schemeName() string {
	if t.scheme == token.Knox4 {
		return "Knox " + string(Knox4)
	}
	return "Knox " + string(Knox5)
}

// drift is an error of the tables, not of a token.
func drift(format string, args ...any) error {
	return fmt.Errorf("%w: %w", token.ErrDrift, fmt.Errorf(format, args...))
}

// isDrift tells whether the server says that the tables are not what they were: an error of the class
// "Syntax Error or Access Rule Violation", or no such schema.
func isDrift(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(e.Code, "42") || e.Code == "3F000")
}

// errChanged is that the tables are others than those that were found, though they can be read.
var errChanged = errors.New("they were changed meanwhile, and are looked at again")

// column is one of a table.
type column struct {
	kind     string // as SQL writes its type
	readable bool
}

// look looks for them in the catalog, where rights that are missing can be told from tables that are.
func (s *Store) look(ctx context.Context) (*tables, error) {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly, IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, err
	}
	defer func() { // nothing was changed
		_ = server.Within(context.WithoutCancel(ctx), lookupTimeout, tx.Rollback)
	}()
	asked := time.Now()
	var now time.Time
	var role string
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp(), current_user`).Scan(&now, &role); err != nil {
		return nil, err
	}
	s.clock.Set(now, asked)
	owner, err := s.ownerOf(ctx, tx, role)
	if err != nil {
		return nil, err
	}
	users, err := table(ctx, tx, "users", role, s.wanted.Users, usersTables, owner)
	if err != nil {
		return nil, err
	}
	tokens, err := table(ctx, tx, "tokens", role, s.wanted.Tokens, tokensTables, owner)
	if err != nil {
		return nil, err
	}
	if _, ok := tokens.columns["salt"]; ok {
		return nil, errSalted
	}
	id, err := userID(ctx, tx, tokens.name, users.name)
	if err != nil {
		return nil, err
	}
	username, active := or(s.wanted.Username, "username"), or(s.wanted.Active, "is_active")
	if err := errors.Join(
		tokens.need(role, "token_table", "digest", "token_key", "user_id", "expiry"),
		users.need(role, "user_table", id, username, active),
		tokens.mustBe("expiry", "timestamp with time zone"), users.mustBe(active, "boolean"),
	); err != nil {
		return nil, oneLine(err)
	}
	t := &tables{name: tokens.name, users: users.name, labelled: tokens.columns["sodar_label"].readable, dated: tokens.columns["created"].readable}
	if closed := tokens.closed("created", "sodar_label"); closed != nil {
		t.grant = tokens.grant(role, closed)
	}
	key := tokens.columns["token_key"].kind
	if t.scheme, err = schemeOf(s.wanted.Scheme, t.name, key); err != nil {
		return nil, err
	}
	from := fmt.Sprintf(` FROM %s AS t JOIN %s AS u ON u.%s = t.user_id`, t.name, t.users, quoted(id))
	columns := fmt.Sprintf(`SELECT t.digest, t.token_key, t.expiry, coalesce(u.%s, ''), coalesce(u.%s, false)`, quoted(username), quoted(active))
	t.all = columns + when(t.labelled, `, t.sodar_label`, `, ''`) + when(t.dated, `, t.created`, `, NULL::timestamptz`) + from
	t.active = fmt.Sprintf(`SELECT EXISTS (SELECT FROM %s AS u WHERE u.%s = $1 AND u.%s)`, t.users, quoted(username), quoted(active))
	// One row at least, by which it is known that the tables are still the same: how digests are made, above all.
	t.lookup = fmt.Sprintf(`SELECT w.same, coalesce(r.digest, ''), coalesce(r.token_key, ''), r.expiry, coalesce(r.username, ''), coalesce(r.active, false)
		FROM (SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'token_key' AND format_type(atttypid, atttypmod) = %s)
			AND NOT row_security_active(%s) AND NOT row_security_active(%s)%s%s AS same) AS w
		LEFT JOIN (%s%s WHERE t.digest = ANY($1::text[])) AS r (digest, token_key, expiry, username, active) ON w.same`,
		literal(t.name), literal(key), literal(t.name), literal(t.users), tokens.same(), users.same(), columns, from)
	return t, nil
}

// literal is a text as SQL writes it.
func literal(text string) string { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }

func or(by, otherwise string) string {
	if by != "" {
		return by
	}
	return otherwise
}

func when(is bool, then, otherwise string) string {
	if is {
		return then
	}
	return otherwise
}

// oneLine is an error of several lines in one.
func oneLine(err error) error {
	return drift("%s", strings.ReplaceAll(strings.ReplaceAll(err.Error(), token.ErrDrift.Error()+": ", ""), "\n", "; "))
}

// quoted is one name as SQL writes it.
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// relation is a table that was found.
type relation struct {
	name       string // in SQL
	oid, owner uint32
	columns    map[string]column
	noneBefore string // a condition: there is none that would be taken before it
}

// nobody owns no table.
const nobody = 0

// ownerOf returns whose tables are taken for the site's: whoever else may make tables in its schema may not let anybody
// in by them. That is the owner of what was set by hand, else the database's if they have any, else the one who has all.
func (s *Store) ownerOf(ctx context.Context, tx pgx.Tx, role string) (owner uint32, err error) {
	names := slices.Concat(usersTables, tokensTables)
	for _, byHand := range []string{s.wanted.Tokens, s.wanted.Users} {
		if byHand != "" {
			names = []string{inSQL(byHand)}
		}
	}
	rows, err := tx.Query(ctx, `SELECT c.oid::regclass::text, c.relowner, pg_get_userbyid(c.relowner), d.datdba
		FROM unnest($1::text[]) AS n (name) JOIN pg_class AS c ON c.oid = to_regclass(n.name)
		JOIN pg_database AS d ON d.datname = current_database()`, names)
	if err != nil {
		return nobody, err
	}
	var name, who string
	var of, databases uint32
	var all []string
	owners := map[uint32]bool{}
	_, err = pgx.ForEachRow(rows, []any{&name, &of, &who, &databases}, func() error {
		owner, owners[of], all = of, true, append(all, name+" of "+who)
		return nil
	})
	switch {
	case isDrift(err):
		return nobody, closedSchema(names[0], role)
	case err != nil:
		return nobody, err
	case owners[databases]:
		return databases, nil
	case len(owners) > 1:
		return nobody, drift("the tables that may be the site's belong to several: %s; set [knox] token_table and user_table to the site's own", strings.Join(all, ", "))
	}
	return owner, nil
}

// table returns the one of that name, else the first of the others that is the owner's.
func table(ctx context.Context, tx pgx.Tx, what, role, byHand string, others []string, owner uint32) (r relation, err error) {
	names, key := others, strings.TrimSuffix(what, "s")+"_table"
	if byHand != "" {
		names, owner = []string{byHand}, nobody
	}
	var passed []string
	for _, n := range names {
		name := inSQL(n)
		var found *string
		var oid, whose *uint32
		var hidden *bool
		err := tx.QueryRow(ctx, `SELECT c.oid, c.relowner, row_security_active(c.oid), quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM (SELECT to_regclass($1) AS oid) AS w
			LEFT JOIN pg_class AS c ON c.oid = w.oid LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace`, name).Scan(&oid, &whose, &hidden, &found)
		if isDrift(err) {
			return r, closedSchema(name, role)
		}
		if err != nil {
			return r, err
		}
		if found != nil && owner != nobody && *whose != owner {
			passed = append(passed, fmt.Sprintf(" (%s is not taken for it, as its owner is not the site's)", *found))
			found = nil
		}
		if found == nil {
			r.noneBefore += ` AND NOT` + ownedBy(name, owner)
			continue
		}
		if *hidden {
			return r, drift("row-level security may hide rows of %s from the role: have a superuser say ALTER ROLE %s BYPASSRLS, or the table's owner end it", *found, quoted(role))
		}
		r.name, r.oid, r.owner = *found, *oid, *whose
		r.columns, err = columnsOf(ctx, tx, r.oid)
		return r, err
	}
	return r, drift("there is no table %s that this role can see: does [knox] url lead to SODAR's (or the Django site's) database, and has the role USAGE of the tables' schema? If the table has another name, set [knox] %s%s", strings.Join(names, " or "), key, strings.Join(passed, ""))
}

// inSQL is the name of a table, with or without its schema, as SQL writes it.
func inSQL(name string) string { return pgx.Identifier(strings.Split(name, ".")).Sanitize() }

func closedSchema(table, role string) error {
	schema, _, _ := strings.Cut(table, ".")
	return drift("the role may not look for the table %s; have the owner of its schema say: GRANT USAGE ON SCHEMA %s TO %s", table, schema, quoted(role))
}

// same is a condition: the table is there, and not become somebody else's.
func (r relation) same() string { return ` AND` + ownedBy(r.name, r.owner) + r.noneBefore }

func ownedBy(table string, owner uint32) string {
	return fmt.Sprintf(` EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(%s) AND relowner = %d)`, literal(table), owner)
}

func columnsOf(ctx context.Context, tx pgx.Tx, oid uint32) (map[string]column, error) {
	rows, err := tx.Query(ctx, `SELECT attname, format_type(atttypid, atttypmod), has_column_privilege(attrelid, attnum, 'SELECT')
		FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, oid)
	if err != nil {
		return nil, err
	}
	all := map[string]column{}
	var name string
	var c column
	_, err = pgx.ForEachRow(rows, []any{&name, &c.kind, &c.readable}, func() error { all[name] = c; return nil })
	return all, err
}

// need says which of these columns are missing, or may not be read.
func (r relation) need(role, key string, names ...string) error {
	var missing []string
	for _, name := range names {
		if _, ok := r.columns[name]; !ok {
			missing = append(missing, name)
		}
	}
	switch closed := r.closed(names...); {
	case missing != nil:
		return drift("the table %s has no column %s: is it Knox's (django-rest-knox 4.2 to 5.0)? If its columns have other names, or another table is meant, set [knox] %s", r.name, strings.Join(missing, ", "), key+when(key == "user_table", ", username_column or active_column", ""))
	case closed != nil:
		return drift("the role may not read what it needs; have the table's owner say: %s", r.grant(role, closed))
	}
	return nil
}

// closed returns which of these columns, as SQL writes them, are there and may not be read.
func (r relation) closed(names ...string) (closed []string) {
	for _, name := range names {
		if column, ok := r.columns[name]; ok && !column.readable {
			closed = append(closed, quoted(name))
		}
	}
	return closed
}

// grant is the statement that lets the role read them.
func (r relation) grant(role string, closed []string) string {
	return fmt.Sprintf("GRANT SELECT (%s) ON %s TO %s", strings.Join(closed, ", "), r.name, quoted(role))
}

// mustBe refuses a column of another type.
func (r relation) mustBe(name, kind string) error {
	if c, ok := r.columns[name]; ok && c.kind != kind {
		return drift("the column %s of %s is %s, and not %s, as Knox and Django have it", name, r.name, c.kind, kind)
	}
	return nil
}

// schemeOf is which Knox fills the table.
func schemeOf(byHand Scheme, table, kind string) (token.Scheme, error) {
	switch {
	case byHand == Knox4, byHand == Found && kind == "character varying(8)":
		return token.Knox4, nil
	case byHand == Knox5, byHand == Found && slices.Contains([]string{"character varying(15)", "character varying(25)"}, kind):
		return token.Knox5, nil
	}
	return "", drift("the column token_key of %s is %s, which neither Knox 4.2 (8 characters) nor Knox 5 (15 or 25) makes: set [knox] scheme", table, kind)
}

// userID returns the column of the users that user_id is about. Where a foreign key says that it is
// about another table, each token would be taken for somebody else's.
func userID(ctx context.Context, tx pgx.Tx, tokens, users string) (string, error) {
	rows, err := tx.Query(ctx, `SELECT quote_ident(n.nspname) || '.' || quote_ident(r.relname), a.attname FROM pg_constraint AS c
		JOIN pg_attribute AS f ON f.attrelid = c.conrelid AND f.attname = 'user_id' AND c.conkey = ARRAY[f.attnum]
		JOIN pg_class AS r ON r.oid = c.confrelid JOIN pg_namespace AS n ON n.oid = r.relnamespace
		JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = c.confkey[1]
		WHERE c.conrelid = $1::regclass AND c.contype = 'f'`, tokens)
	if err != nil {
		return "", err
	}
	id := "id"
	var of, column string
	_, err = pgx.ForEachRow(rows, []any{&of, &column}, func() error {
		if of != users {
			return drift("the owners in %s are those of %s, and not of %s: set [knox] user_table", tokens, of, users)
		}
		id = column
		return nil
	})
	return id, err
}
