package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

const (
	// logins is how many connections to PostgreSQL a daemon has for logins.
	logins = 8
	// batch is how many look-ups one transaction of pgbench's makes: its variables take
	// digests only from an answer, and one such question for many costs little.
	batch   = 100
	batches = 1000
)

// lookups measures the store alone, in this process.
func (f *fleet) lookups(store *postgres.Store, atOnce int) way {
	round := 0
	return way{"look-ups in the store", func(ctx context.Context) (float64, error) {
		digests := scatter(round, f.tokens)
		round++
		return repeat(ctx, atOnce, f.span, func(ctx context.Context, n int) error {
			_, err := store.Lookup(ctx, digests[n%len(digests)])
			return err
		})
	}}
}

// scatter returns digests for one round, which are made before so that this is not measured.
func scatter(round, tokens int) []token.Digest {
	digests := make([]token.Digest, min(200_000, tokens))
	for i := range digests {
		digests[i] = digest(scattered(round*len(digests)+i, tokens))
	}
	return digests
}

// againstPostgreSQL compares look-ups, of another token each, with pgbench's.
func (f *fleet) againstPostgreSQL(ctx context.Context) error {
	w := newTable("\nlook-ups of %d tokens in PostgreSQL, each another (%d rounds of %s, in turns)\tat once\tper second\tratio (goal: %.1f)", f.tokens, f.rounds, f.span, goal)
	for _, atOnce := range []int{1, logins} {
		store, err := postgres.Open(ctx, postgres.Config{URL: f.postgres.URL(f.large.database), Connections: 2 * atOnce})
		if err != nil {
			return err
		}
		got, err := turns(ctx, f.rounds, fmt.Sprintf("store, %d at once", atOnce), []way{
			{"pgbench", func(ctx context.Context) (float64, error) { return f.pgbench(ctx, f.large, atOnce) }},
			f.lookups(store, atOnce),
			f.coldChecks(atOnce),
		})
		if err = errors.Join(err, store.Close()); err != nil {
			return err
		}
		fmt.Fprintf(w, "pgbench, a prepared SELECT by primary key\t%d\t%.0f\t\n", atOnce, got[0])
		fmt.Fprintf(w, "the store's Lookup in one process\t%d\t%.0f\t%.2f\n", atOnce, got[1], got[1]/got[0])
		fmt.Fprintf(w, "a check over the socket, nothing in Redis\t%d\t%.0f\t%.2f\n", atOnce, got[2], got[2]/got[0])
	}
	return w.Flush()
}

// layOut makes the table from which pgbench takes its digests.
func (f *fleet) layOut(ctx context.Context, s size) (err error) {
	conn, err := pgx.Connect(ctx, f.postgres.URL(s.database))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if _, err := conn.Exec(ctx, `CREATE TABLE batches (number integer PRIMARY KEY, digests text[])`); err != nil {
		return err
	}
	rows := pgx.CopyFromSlice(batches, func(n int) ([]any, error) {
		digests := make([]string, batch)
		for i := range digests {
			digests[i] = `\x` + digest(scattered(n*batch+i, s.tokens)).String()
		}
		return []any{n, digests}, nil
	})
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"batches"}, []string{"number", "digests"}, rows); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "VACUUM (ANALYZE) batches")
	return err
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// pgbench returns its look-ups per second.
func (f *fleet) pgbench(ctx context.Context, s size, atOnce int) (float64, error) {
	var script strings.Builder
	fmt.Fprintf(&script, "\\set number random(0, %d)\nSELECT ", batches-1)
	for i := range batch {
		fmt.Fprintf(&script, "digests[%d] AS d%d", i+1, i)
		if i < batch-1 {
			script.WriteString(", ")
		}
	}
	script.WriteString(" FROM batches WHERE number = :number \\gset\n")
	for i := range batch {
		fmt.Fprintf(&script, "SELECT id, digest, owner, hint, label, created, expires, revoked FROM tokens WHERE digest = :d%d;\n", i)
	}
	seconds := strconv.Itoa(max(1, int(f.span.Seconds())))
	out, err := f.postgres.Bench(ctx, s.database, script.String(), "-M", "prepared", "-c", strconv.Itoa(atOnce), "-j", strconv.Itoa(min(2, atOnce)), "-T", seconds)
	if err != nil {
		return 0, err
	}
	found := tps.FindStringSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench printed no tps: %s", out)
	}
	transactions, err := strconv.ParseFloat(found[1], 64)
	return transactions * batch, err
}

// coldChecks is the way of a login whose token no daemon has seen.
func (f *fleet) coldChecks(atOnce int) way {
	first := 0
	return way{"checks", func(ctx context.Context) (float64, error) {
		if _, err := f.redis.Exec(ctx, "FLUSHALL"); err != nil {
			return 0, err
		}
		cold := make([]string, int(f.span.Seconds()+1)*30_000) // more than it can do
		for i := range cold {
			cold[i] = login(scattered(first+i, f.tokens))
		}
		first += len(cold)
		r, err := hammer(ctx, f.load, f.sockets(1), atOnce, f.span, cold, "yes")
		return r.perSecond(), err
	}}
}

// bySize compares look-ups among many tokens with those among few, and so does pgbench.
func (f *fleet) bySize(ctx context.Context) error {
	const goal = 1.2
	w := newTable("\nlook-ups in PostgreSQL, each of another token (%d rounds of %s, in turns)\tat once\tmedian\tratio (goal: at most %.1f)\tper second\tratio", f.rounds, f.span, goal)
	sizes := []size{f.small, f.large}
	for _, atOnce := range []int{1, logins} {
		var ways []way
		rates := make([][]float64, len(sizes))
		for i, s := range sizes {
			store, err := postgres.Open(ctx, postgres.Config{URL: f.postgres.URL(s.database), Connections: 2 * atOnce})
			if err != nil {
				return err
			}
			defer store.Close()
			round := 0
			ways = append(ways, way{strconv.Itoa(s.tokens), func(ctx context.Context) (float64, error) {
				round++
				middle, rate, err := medianLookup(ctx, store, atOnce, scatter(round, s.tokens), f.span)
				rates[i] = append(rates[i], rate)
				return middle, err
			}}, way{"pgbench, " + strconv.Itoa(s.tokens), func(ctx context.Context) (float64, error) { return f.pgbench(ctx, s, atOnce) }})
		}
		got, err := turns(ctx, f.rounds, fmt.Sprintf("size, %d at once", atOnce), ways)
		if err != nil {
			return err
		}
		less, more := median(rates[0]), median(rates[1])
		fmt.Fprintf(w, "%d tokens\t%d\t%.0f µs\t\t%.0f\t\n", sizes[0].tokens, atOnce, got[0], less)
		fmt.Fprintf(w, "%d tokens\t%d\t%.0f µs\t%.2f\t%.0f\t%.2f\n", sizes[1].tokens, atOnce, got[2], got[2]/got[0], more, more/less)
		fmt.Fprintf(w, "pgbench, %d tokens\t%d\t\t\t%.0f\t\n", sizes[0].tokens, atOnce, got[1])
		fmt.Fprintf(w, "pgbench, %d tokens\t%d\t\t\t%.0f\t%.2f\n", sizes[1].tokens, atOnce, got[3], got[3]/got[1])
	}
	return w.Flush()
}

// medianLookup is how many microseconds a look-up takes, and how many there are per second.
func medianLookup(ctx context.Context, store *postgres.Store, atOnce int, digests []token.Digest, span time.Duration) (micros, perSecond float64, err error) {
	const most = 1_000_000
	times := make(series, most)
	rate, err := repeat(ctx, atOnce, span, func(ctx context.Context, n int) error {
		begun := time.Now()
		_, err := store.Lookup(ctx, digests[n%len(digests)])
		times[n%most] = time.Since(begun)
		return err
	})
	done := min(int(rate*span.Seconds()), most-1)
	return float64(times[1:done].quantile(0.5).Nanoseconds()) / 1000, rate, err
}
