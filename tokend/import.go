package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tokend/config"
	"tokend/tokend/store/knox"
	"tokend/tokend/store/server"
	"tokend/tokend/token"
	"tokend/tokend/web"
)

func newImport() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Keep tokens that another program has made", Args: knownCommand, RunE: needsCommand}
	cmd.AddCommand(newImportKnox())
	return cmd
}

// importKnox is an import as it was asked for.
type importKnox struct {
	from, password string
	tables         knox.Tables
	users          []string
	dryRun, asJSON bool
}

func newImportKnox() *cobra.Command {
	var m importKnox
	cmd := &cobra.Command{
		Use:   "knox",
		Short: "Copy the tokens of SODAR, or of another Django site with Knox",
		Long: `Copy tokens from the tables of SODAR, or of another Django site with
django-rest-knox 4.2 to 5, into the store of the daemon that runs: with their owners,
labels and expiry, so that users go on with the tokens they have. The site's tables
are only read.

It may be done again: what is kept already stays as it is, also what was revoked
meanwhile. Left out, and counted, are tokens that have expired, those of users who
may not log in, and those whose owner's name no iRODS user can have; labels that look
like a token or have a line break are left out. Labels, and when
tokens were made, are copied where the role may read them (GRANT SELECT of created and
sodar_label). A site's TOKEN_PREFIX has to be named in [knox] prefix.

As long as [knox] url names the same site, its tokens are looked up there, but for
those of Knox 4.2 once it has Knox 5; when it is left out, all that were imported open
iRODS.`,
		Example: `  tokend import knox --from 'postgres://tokend@sodar.example/sodar?sslmode=verify-full' --dry-run
  tokend import knox --from 'postgres://tokend@sodar.example/sodar?sslmode=verify-full' --user alice@ORG`,
		Args: exactly(0, "no argument"),
		RunE: func(cmd *cobra.Command, _ []string) error { return m.run(cmd) },
	}
	addAdminSocket(cmd)
	flags := cmd.Flags()
	flags.StringVar(&m.from, "from", "", "the site's database: postgres://user@host/database")
	flags.StringVar(&m.password, "password-file", "", "a file with the password of that user")
	flags.StringArrayVar(&m.users, "user", nil, "only the tokens of this user; may be given several times")
	flags.StringVar(&m.tables.Tokens, "token-table", "", "where the tokens are, if not in tokens_sodarauthtoken or knox_authtoken")
	flags.StringVar(&m.tables.Users, "user-table", "", "where the users are, if not in users_user or auth_user")
	flags.StringVar(&m.tables.Username, "username-column", "", "what they are called by, if not by username")
	flags.StringVar(&m.tables.Active, "active-column", "", "whether they may log in, if that is not is_active")
	flags.StringVar((*string)(&m.tables.Scheme), "scheme", "", "which Knox fills the tables, if they don't tell: 4.2 or 5")
	flags.BoolVar(&m.dryRun, "dry-run", false, "say what would be imported, and change nothing")
	flags.BoolVar(&m.asJSON, "json", false, "print JSON")
	completeNothing(cmd, "from", "user", "token-table", "user-table", "username-column", "active-column", "scheme")
	return cmd
}

// imported is what became of the tokens.
type imported struct {
	From     string        `json:"from"`
	Read     int           `json:"read"`
	New      int           `json:"new"`
	Known    int           `json:"known"`
	Expired  int           `json:"expired"`
	Inactive int           `json:"inactive"` // of users who may not log in
	Refused  []web.Refused `json:"refused"`
	Labels   bool          `json:"labels"`               // whether they could be read
	Unkept   int           `json:"unlabelled"`           // whose label cannot be kept here
	Ended    int           `json:"ended"`                // by [tokens] max_expiry
	NoTokens []string      `json:"users_without_tokens"` // of those that were asked for
	Created  bool          `json:"created"`              // whether that could be
	Grant    string        `json:"grant,omitempty"`      // by which more of that could be
	DryRun   bool          `json:"dry_run"`
}

func (m importKnox) run(cmd *cobra.Command) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	done, err := m.do(ctx, cmd)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted; what was imported is kept, and the same command goes on")
		if m.dryRun {
			err = errors.New("interrupted; nothing was imported")
		}
	}
	if err != nil && ctx.Err() == nil && done != nil && done.New > 0 && !m.dryRun {
		err = fmt.Errorf("%w; what was imported is kept, and the same command goes on", err)
	}
	if errors.Is(err, token.ErrDrift) { // of the site's tables
		err = errors.New(inFlags.Replace(err.Error()))
	}
	if done == nil {
		return err
	}
	if err != nil { // others may have some that were not read
		done.NoTokens = []string{}
	}
	return errors.Join(done.print(cmd, m.asJSON), err)
}

// open opens the site's database.
func (m importKnox) open(ctx context.Context, stderr io.Writer) (*knox.Store, error) {
	if m.from == "" {
		return nil, errors.New("tokend import knox needs --from URL, the site's database: see tokend import knox --help")
	}
	if !config.IsPostgreSQL(m.from) {
		return nil, errors.New("--from wants the site's PostgreSQL database: postgres://user@host/database")
	}
	if err := config.CheckPostgreSQL(m.from); err != nil {
		return nil, fmt.Errorf("--from: %s", strings.ReplaceAll(err.Error(), "in password_file", "with --password-file"))
	}
	switch m.tables.Scheme {
	case knox.Found, knox.Knox4, knox.Knox5:
	default:
		return nil, fmt.Errorf("--scheme is %q or %q, not %q", knox.Knox4, knox.Knox5, m.tables.Scheme)
	}
	if slices.ContainsFunc(server.Unproven(m.from), distant) {
		fmt.Fprintln(stderr, "--from:", unproven)
	}
	cfg := knox.Config{URL: m.from, Tables: m.tables, Connections: 2}
	cfg.Names = server.Names{URL: "--from", Password: "--password-file", Connections: "what others use of them"}
	if m.password != "" {
		file, err := filepath.Abs(m.password) // another name would be that of a credential, as in the configuration
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		cfg.Password = func() (string, error) { return readSecretFile(file) }
	}
	source, err := knox.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := source.Err(); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return source, nil
}

// inFlags names what is said of the configuration as the command does.
var inFlags = strings.NewReplacer("[knox] url", "--from", "[knox] token_table", "--token-table", "[knox] user_table", "--user-table",
	"username_column", "--username-column", "active_column", "--active-column", "[knox] scheme", "--scheme")

func (m importKnox) do(ctx context.Context, cmd *cobra.Command) (done *imported, err error) {
	for _, user := range m.users {
		if err := token.CheckUser(user); err != nil {
			return nil, fmt.Errorf("--user: %w", err)
		}
	}
	source, err := m.open(ctx, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	client, err := newClient(cmd)
	if err != nil {
		return nil, err
	}
	if err := client.call(ctx, http.MethodGet, "/api/v1/tokens", url.Values{"limit": {"1"}}, nil, &[]web.Token{}); err != nil { // before anything is read
		return nil, fmt.Errorf("the daemon that is to keep them: %w", err)
	}
	rows, err := source.Count(ctx, m.users)
	if err != nil {
		return nil, err
	}
	done = &imported{From: source.String(), Refused: []web.Refused{}, DryRun: m.dryRun, NoTokens: append([]string{}, m.users...)}
	slices.Sort(done.NoTokens)
	done.NoTokens = slices.Compact(done.NoTokens)
	done.Labels, done.Created, done.Grant = source.Readable()
	bar := newProgress(cmd.ErrOrStderr(), rows)
	defer bar.end()
	var some []web.Foreign
	send := func() error {
		err := done.send(ctx, client, some)
		some = some[:0]
		return err
	}
	for r, err := range source.All(ctx, m.users) {
		if err != nil {
			return done, err
		}
		bar.step("importing")
		if i, asked := slices.BinarySearch(done.NoTokens, r.Owner); asked {
			done.NoTokens = slices.Delete(done.NoTokens, i, i+1)
		}
		if !done.wants(r, source.Now()) {
			continue
		}
		some = append(some, asForeign(r))
		if len(some) == importAtOnce {
			if err := send(); err != nil {
				return done, err
			}
		}
	}
	return done, send()
}

// importAtOnce is how many are sent at once: a slow disk keeps so many well within its time, and logins
// wait for none.
const importAtOnce = 250

// wants counts the token, and reports whether it is to be kept.
func (d *imported) wants(r token.Record, now time.Time) bool {
	d.Read++
	why := token.CheckUser(r.Owner)
	if why == nil && r.Digest == (token.Digest{}) {
		why = errors.New("its digest is none of Knox's")
	}
	switch {
	case r.OwnerDisabled:
		d.Inactive++
	case r.StateAt(now, token.Forever) != token.Active:
		d.Expired++
	case why != nil:
		d.Refused = append(d.Refused, web.Refused{User: token.RedactName(r.Owner), Hint: r.Hint, Why: why.Error()})
	default:
		return true
	}
	return false
}

func asForeign(r token.Record) web.Foreign {
	f := web.Foreign{Digest: r.Digest, Scheme: string(r.Scheme), User: r.Owner, Hint: r.Hint, Label: r.Label}
	if !r.Created.IsZero() {
		f.Created = &r.Created
	}
	if !r.Expires.IsZero() {
		f.Expires = &r.Expires
	}
	return f
}

// send has the daemon keep them.
func (d *imported) send(ctx context.Context, c *client, tokens []web.Foreign) error {
	if len(tokens) == 0 {
		return nil
	}
	var became web.Imported
	if err := c.call(ctx, http.MethodPost, "/api/v1/tokens/import", nil, web.Import{From: d.From, Tokens: tokens, DryRun: d.DryRun}, &became); err != nil {
		return fmt.Errorf("the daemon that is to keep them: %w", err)
	}
	d.New, d.Known, d.Expired = d.New+became.New, d.Known+became.Known, d.Expired+became.Expired
	d.Refused, d.Unkept, d.Ended = append(d.Refused, became.Refused...), d.Unkept+became.Unlabelled, d.Ended+became.Ended
	return nil
}

// mostTold is how many refusals are told one by one.
const mostTold = 20

func (d *imported) print(cmd *cobra.Command, asJSON bool) error {
	if asJSON {
		return printJSON(cmd.OutOrStdout(), d)
	}
	out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, r := range d.Refused[:min(len(d.Refused), mostTold)] {
		fmt.Fprintf(errs, "not imported: %s… of %s: %s\n", r.Hint, printable(r.User), printable(r.Why))
	}
	if more := len(d.Refused) - mostTold; more > 0 {
		fmt.Fprintf(errs, "and %s more; --json tells of all\n", count(int64(more), "token", "tokens"))
	}
	if d.Grant != "" {
		fmt.Fprintf(errs, "without the right to read them, labels are empty, or tokens seem to be made now; have the table's owner say: %s\n", printable(d.Grant))
	}
	for _, user := range d.NoTokens {
		fmt.Fprintf(errs, "there is no token of %s\n", printable(user))
	}
	said := "imported"
	if d.DryRun {
		said = "would import"
	}
	parts := []string{fmt.Sprintf("%s %s of %s from %s", said, count(int64(d.New), "token", "tokens"), count(int64(d.Read), "token", "tokens"), printable(d.From))}
	for _, left := range []struct {
		n   int
		why string
	}{
		{d.Known, "kept before, and left as they are"}, {d.Expired, "expired"}, {d.Inactive, "of users who may not log in"}, {len(d.Refused), "that cannot be kept"},
		{d.Unkept, "without their label, which looks like a token or has a line break"}, {d.Ended, "that open nothing, as [tokens] max_expiry has ended them"},
	} {
		if left.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", left.n, left.why))
		}
	}
	_, err := fmt.Fprintln(out, strings.Join(parts, "; "))
	return err
}
