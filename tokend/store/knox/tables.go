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
	passed      string // what may have been meant and was not taken, and why; empty: there is none
}

// Where Django's sites have them, the first first: SODAR from 1.3 on has a table of its own.
var (
	tokensTables = []string{"tokens_sodarauthtoken", "knox_authtoken"}
	usersTables  = []string{"users_user", "auth_user"}
)

// errSalted is what Knox 4.1 and older leave: no look-up by digest finds anything there.
var errSalted = drift("its tokens are salted, as Knox 4.1 and older keep them, so that none can be looked up: upgrade django-rest-knox to 4.2 or later (SODAR to 1.0 or later), and have the users make new tokens")

// find looks for the tables, and notes what it finds; Open and then Run do, one after the other. The errors are the same as Err's.
func (s *Store) find(ctx context.Context) error {
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
	case errors.Is(before.err, token.ErrDrift):
		return before.err // nor that they are as they should be
	default:
		err = s.explain(err)
	}
	now := &found{t, err}
	s.found.Store(now)
	switch {
	case err == nil && (before.err != nil || *before.tables != *t):
		s.log.InfoContext(ctx, "tokens of Knox are read", "table", t.name, "users", t.users, "scheme", t.schemeName())
		if t.passed != "" {
			s.log.WarnContext(ctx, "what may be the site's is not read", "why", t.passed)
		}
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
// "Syntax Error or Access Rule Violation".
func isDrift(err error) bool {
	_, unmade := errors.AsType[*pgconn.ConnectError](err) // as where the role may not connect
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !unmade && strings.HasPrefix(e.Code, "42")
}

// errChanged is that the tables are others than those that were found, though they can be read.
var errChanged = errors.New("they were changed meanwhile, and are looked at again")

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
	l := looker{tx: tx}
	err = tx.QueryRow(ctx, `SELECT pg_catalog.clock_timestamp(), pg_catalog.quote_ident(current_user), pg_catalog.current_schemas(false)::pg_catalog.text[]`).Scan(&now, &l.role, &l.schemas)
	if err != nil {
		return nil, err
	}
	s.clock.Set(now, asked)
	if err := l.trust(ctx); err != nil {
		return nil, err
	}
	users, tokens := relation{what: "user_table", byHand: s.wanted.Users, names: usersTables}, relation{what: "token_table", byHand: s.wanted.Tokens, names: tokensTables}
	all := []*relation{&users, &tokens}
	if users.byHand == "" && tokens.byHand != "" { // whose owner may have the other, too
		slices.Reverse(all)
	}
	for _, r := range all {
		if err := l.find(ctx, r); err != nil {
			return nil, err
		}
	}
	if _, ok := tokens.columns["salt"]; ok {
		return nil, errSalted
	}
	id, err := l.userID(ctx, tokens, users)
	if err != nil {
		return nil, err
	}
	username, active := or(s.wanted.Username, "username"), or(s.wanted.Active, "is_active")
	if err := errors.Join(
		tokens.need(l.role, "digest", "token_key", "user_id", "expiry"),
		users.need(l.role, id, username, active),
		tokens.mustBe("expiry", "timestamp with time zone"), users.mustBe(active, "boolean"),
		tokens.mustBeText("digest"), tokens.mustBeText("token_key"), users.mustBeText(username),
	); err != nil {
		return nil, oneLine(err)
	}
	t := &tables{
		name: tokens.name, users: users.name, passed: strings.TrimSpace(users.passed + tokens.passed),
		labelled: tokens.columns["sodar_label"].readable, dated: tokens.columns["created"].readable,
	}
	if closed := tokens.closed("created", "sodar_label"); closed != nil {
		t.grant = tokens.grant(l.role, closed)
	}
	key := tokens.columns["token_key"]
	if t.scheme, err = schemeOf(s.wanted.Scheme, t.name, key.kind); err != nil {
		return nil, err
	}
	// Nobody's operators but PostgreSQL's own: others can be made in a schema where one may make a table. So can functions,
	// which are taken for a column that is gone.
	sameTokens, sameUsers := tokens.same("digest", "token_key", "user_id", "expiry"), users.same(id, username, active)
	from := fmt.Sprintf(` FROM %s AS t JOIN %s AS u ON u.%s OPERATOR(pg_catalog.=) t.user_id`, t.name, t.users, quoted(id))
	columns := fmt.Sprintf(`SELECT t.digest::pg_catalog.text, coalesce(t.token_key::pg_catalog.text, ''), t.expiry, coalesce(u.%s::pg_catalog.text, ''), coalesce(u.%s, false)`, quoted(username), quoted(active))
	t.all = columns + when(t.labelled, `, coalesce(t.sodar_label, '')`, `, ''`) + when(t.dated, `, t.created`, `, NULL::pg_catalog.timestamptz`) + from
	t.active = fmt.Sprintf(`SELECT (%s) IS TRUE, EXISTS (SELECT FROM %s AS u WHERE u.%s::pg_catalog.text OPERATOR(pg_catalog.=) $1::pg_catalog.text AND u.%s)`,
		sameUsers, t.users, quoted(username), quoted(active))
	// One row at least, by which it is known that the tables are still the same: how digests are made, above all.
	t.lookup = fmt.Sprintf(`SELECT w.same, coalesce(r.digest, ''), coalesce(r.token_key, ''), r.expiry, coalesce(r.username, ''), coalesce(r.active, false)
		FROM (SELECT (%s AND %s AND EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid OPERATOR(pg_catalog.=) %d::pg_catalog.oid AND attname OPERATOR(pg_catalog.=) 'token_key'
			AND atttypid OPERATOR(pg_catalog.=) %d::pg_catalog.oid AND atttypmod OPERATOR(pg_catalog.=) %d)) IS TRUE AS same) AS w
		LEFT JOIN (%s%s WHERE t.digest::pg_catalog.text OPERATOR(pg_catalog.=) ANY($1::pg_catalog.text[])) AS r (digest, token_key, expiry, username, active) ON w.same`,
		sameTokens, sameUsers, tokens.oid, key.oid, key.length, columns, from)
	// A view may be read, and what it shows may not.
	if _, err := tx.Exec(ctx, t.lookup, []string{}); isDrift(err) {
		return nil, drift("%s cannot be looked up: %w", t.name, err)
	}
	return t, err
}

// literal is a text as SQL writes it, whatever standard_conforming_strings is.
func literal(text string) string {
	text = strings.ReplaceAll(text, `'`, `''`)
	if strings.Contains(text, `\`) {
		return ` E'` + strings.ReplaceAll(text, `\`, `\\`) + `'`
	}
	return `'` + text + `'`
}

// arrayOf is a list as a literal of SQL.
func arrayOf[T any](list []T) string {
	var all []string
	for _, one := range list {
		all = append(all, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(fmt.Sprint(one))+`"`)
	}
	return literal("{" + strings.Join(all, ",") + "}")
}

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

// looker looks for the tables, by the catalog alone.
type looker struct {
	tx      pgx.Tx
	role    string
	schemas []string // where a name without one may be, the first first
	owners  []uint32 // whose tables may be the site's
}

// trust finds out whose tables may be the site's without being set by hand: the database's owner's, or a superuser's.
// Whoever else may make tables there must not let anybody in by them. From here on no name is looked for elsewhere than
// in the catalog.
func (l *looker) trust(ctx context.Context) error {
	if _, err := l.tx.Exec(ctx, `SET LOCAL search_path = pg_catalog, pg_temp`); err != nil {
		return err
	}
	rows, err := l.tx.Query(ctx, `SELECT oid FROM pg_roles WHERE rolsuper UNION SELECT datdba FROM pg_database WHERE datname = current_database()`)
	if err != nil {
		return err
	}
	l.owners, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
	return err
}

// relation is a table that is looked for, and found.
type relation struct {
	what   string   // it is called so in [knox]
	byHand string   // its name, if that is set
	names  []string // else those that it may have, the first first

	name    string // in SQL
	oid     uint32
	view    bool
	columns map[string]column
	before  string // a condition: there is none that would be taken before it
	passed  string // what was not taken, and why
}

// find finds the one of the name that is set, else the first of the others that may be the site's. The owner of what is
// set by hand may have the other table, too.
func (l *looker) find(ctx context.Context, r *relation) error {
	names := r.names
	if r.byHand != "" {
		names = []string{r.byHand}
	}
	for _, name := range names {
		schemas, table := l.schemas, name
		if schema, rest, ok := strings.Cut(name, "."); ok {
			schemas, table = []string{schema}, rest
		}
		var owner uint32
		var schema, who string
		var trusted, open, hidden bool
		err := l.tx.QueryRow(ctx, `SELECT c.oid, quote_ident(n.nspname), quote_ident(n.nspname) || '.' || quote_ident(c.relname), c.relowner, pg_get_userbyid(c.relowner), c.relowner = ANY($3::oid[]) AS trusted, c.relkind IN ('v', 'm'),
			has_schema_privilege(n.oid, 'USAGE'), row_security_active(c.oid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
			WHERE c.relname = $1 AND n.nspname = ANY($2::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
			ORDER BY $4 AND c.relowner = ANY($3::oid[]) DESC, array_position($2::text[], n.nspname::text) LIMIT 1`, table, schemas, l.owners, r.byHand == "").
			Scan(&r.oid, &schema, &r.name, &owner, &who, &trusted, &r.view, &open, &hidden)
		switch {
		case errors.Is(err, pgx.ErrNoRows) || err == nil && !trusted && r.byHand == "":
			if err == nil {
				r.passed += fmt.Sprintf(" %s is of %s, who is neither the database's owner nor a superuser, and could let anybody in by it: if it is the site's, name it in [knox] %s.", r.name, who, r.what)
			}
			r.before += fmt.Sprintf(` AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
				WHERE c.relname OPERATOR(pg_catalog.=) %s AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) ANY(%s::pg_catalog.text[]) AND c.relowner OPERATOR(pg_catalog.=) ANY(%s::pg_catalog.oid[]))`,
				literal(table), arrayOf(schemas), arrayOf(l.owners))
		case err != nil:
			return err
		case !open:
			return drift("the role may not look for the table %s; have the owner of its schema say: GRANT USAGE ON SCHEMA %s TO %s", r.name, schema, l.role)
		case hidden:
			return drift("row-level security may hide rows of %s from the role: have a superuser say ALTER ROLE %s BYPASSRLS, or the table's owner end it", r.name, l.role)
		default:
			if !trusted { // it is set by hand
				l.owners = append(l.owners, owner)
			}
			r.columns, err = columnsOf(ctx, l.tx, r.oid)
			return err
		}
	}
	return drift("there is no table %s that this role can see: does [knox] url lead to SODAR's (or the Django site's) database, and has the role USAGE of the tables' schema?%s",
		strings.Join(names, " or "), or(r.passed, " If the table has another name, set [knox] "+r.what))
}

// same is a condition: it is the table that was found, with these columns as they were, whose rows are not hidden, and there
// is none to be taken before it.
func (r relation) same(columns ...string) string {
	for i, name := range columns {
		columns[i] = fmt.Sprintf("%s %d", name, r.columns[name].oid)
	}
	slices.Sort(columns)
	columns = slices.Compact(columns) // the key of the users may be their name
	return fmt.Sprintf(`pg_catalog.to_regclass(%s)::pg_catalog.oid OPERATOR(pg_catalog.=) %d::pg_catalog.oid AND NOT pg_catalog.row_security_active(%[2]d::pg_catalog.oid)
		AND (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute WHERE attrelid OPERATOR(pg_catalog.=) %[2]d::pg_catalog.oid AND pg_catalog.concat(attname, ' ', atttypid) OPERATOR(pg_catalog.=) ANY(%[3]s::pg_catalog.text[])) OPERATOR(pg_catalog.=) %[4]d::pg_catalog.int8%[5]s`,
		literal(r.name), r.oid, arrayOf(columns), len(columns), r.before)
}

// schemeOf is which Knox fills the table. What is set by hand is for what tells nothing of it: where the table contradicts,
// as after an upgrade, each token would be taken for wrong.
func schemeOf(byHand Scheme, table, kind string) (token.Scheme, error) {
	found := map[string]Scheme{"character varying(8)": Knox4, "character varying(15)": Knox5, "character varying(25)": Knox5}[kind]
	switch {
	case found != Found && byHand != Found && byHand != found:
		return "", drift("the column token_key of %s is %s, as Knox %s makes it, and [knox] scheme says %s: leave that out", table, kind, found, byHand)
	case found == Knox4, byHand == Knox4:
		return token.Knox4, nil
	case found == Knox5, byHand == Knox5:
		return token.Knox5, nil
	}
	return "", drift("the column token_key of %s is %s, which neither Knox 4.2 (8 characters) nor Knox 5 (15 or 25) makes: set [knox] scheme", table, kind)
}

// userID returns the column of the users that user_id is about. Where a foreign key says that it is
// about another table, each token would be taken for somebody else's; a view, which is set by hand, may show that one.
func (l *looker) userID(ctx context.Context, tokens, users relation) (string, error) {
	rows, err := l.tx.Query(ctx, `SELECT c.confrelid, quote_ident(n.nspname) || '.' || quote_ident(r.relname), a.attname FROM pg_constraint AS c
		JOIN pg_attribute AS f ON f.attrelid = c.conrelid AND f.attname = 'user_id' AND c.conkey = ARRAY[f.attnum]
		JOIN pg_class AS r ON r.oid = c.confrelid JOIN pg_namespace AS n ON n.oid = r.relnamespace
		JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = c.confkey[1]
		WHERE c.conrelid = $1 AND c.contype = 'f'`, tokens.oid)
	if err != nil {
		return "", err
	}
	id := "id"
	var oid uint32
	var of, column string
	_, err = pgx.ForEachRow(rows, []any{&oid, &of, &column}, func() error {
		if oid != users.oid && (!users.view || users.byHand == "") {
			return drift("the owners in %s are those of %s, and not of %s: set [knox] user_table", tokens.name, of, users.name)
		}
		id = column
		return nil
	})
	return id, err
}
