package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
	"tokend/tokend/store/postgres"
	"tokend/tokend/token"
)

// backends counts the server's processes for tokend's connections to this database that
// meet the condition.
func backends(ctx context.Context, conn *pgx.Conn, condition string) (n int) {
	check(conn.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'tokend' AND `+condition).Scan(&n))
	return n
}

// TestNoMoreConnectionsThanConfigured are made by a crowd, and one by Watch.
func TestNoMoreConnectionsThanConfigured(t *testing.T) {
	url := newDatabase(t, "current")
	const configured, watch = 5, 1
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Connections: configured})
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	told(t, s)
	r := mint(t, s)
	await(t, "the first answer", s.Hears)
	ctx, cancel := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for i := range 40 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if i%2 == 0 {
					_, _ = s.Lookup(ctx, r.Digest)
				} else {
					_, _ = s.Records(ctx, token.Page{Limit: 1})
				}
			}
		})
	}
	conn := connect(t.Context(), url)
	most := 0
	await(t, "all connections", func() bool {
		most = max(most, backends(t.Context(), conn, `true`))
		return most >= configured+watch
	})
	for range 100 {
		most = max(most, backends(t.Context(), conn, `true`))
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	crowd.Wait()
	check(conn.Close(context.Background()))
	if most != configured+watch {
		t.Errorf("%d connections were made, want %d and one to watch", most, configured)
	}
}

// TestServerEndsWhatNobodyWaitsForAnyMore: the network is cut while a look-up waits, so
// that nobody can cancel it.
func TestServerEndsWhatNobodyWaitsForAnyMore(t *testing.T) {
	t.Parallel()
	database, proxy := newName(t, "current"), newProxy(t)
	s := open(t, urlBy(database, proxy))
	holder := connect(t.Context(), server.URL(database))
	defer func() { check(holder.Close(context.Background())) }()
	_, err := holder.Exec(t.Context(), `BEGIN; LOCK TABLE tokens`)
	check(err)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Lookup(t.Context(), token.Digest{})
		ended <- err
	}()
	// A transaction would see the same for as long as it lasts.
	watcher := connect(t.Context(), server.URL(database))
	defer func() { check(watcher.Close(context.Background())) }()
	const waits = `wait_event_type = 'Lock'`
	await(t, "the look-up to wait", func() bool { return backends(t.Context(), watcher, waits) == 1 })
	proxy.Cut()
	if err := <-ended; err == nil {
		t.Error("there is an answer")
	}
	for begun := time.Now(); backends(t.Context(), watcher, waits) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second { // of 5
			t.Fatal("it still waits")
		}
	}
}

// TestSessionsEndByThemselves, whatever kind they are of.
func TestSessionsEndByThemselves(t *testing.T) {
	s := open(t, newDatabase(t, "current"))
	for name, want := range map[string]string{"statement_timeout": "5s", "idle_in_transaction_session_timeout": "10s"} {
		logins, changes, watch, err := s.SessionSettings(t.Context(), name)
		if err != nil || logins != want || changes != want || watch != want {
			t.Errorf("%s: %q for logins, %q for changes, %q to watch, %v, want %s", name, logins, changes, watch, err, want)
		}
	}
}

// TestSessionsThatTheNetworkHasLostEnd within a minute, and do not take the room of others for hours.
func TestSessionsThatTheNetworkHasLostEnd(t *testing.T) {
	t.Parallel()
	own, err := servers.StartPostgreSQLWithTLS("fsync=off")
	check(err)
	t.Cleanup(func() { check(own.Stop()) })
	s := open(t, "postgres://tokend@127.0.0.1:"+own.Port()+"/postgres?sslmode=require")
	for name, want := range map[string]string{"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3", "tcp_user_timeout": "60000"} {
		logins, changes, watch, err := s.SessionSettings(t.Context(), name)
		if err != nil || logins != want || changes != want || watch != want {
			t.Errorf("%s: %q for logins, %q for changes, %q to watch, %v, want %s", name, logins, changes, watch, err, want)
		}
	}
}

// TestLookupsArePrepared: the server neither parses nor analyses a login's question anew.
func TestLookupsArePrepared(t *testing.T) {
	s, err := postgres.Open(t.Context(), postgres.Config{URL: newDatabase(t, "current")}) // one connection for logins
	check(err)
	t.Cleanup(func() { check(s.Close()) })
	r := mint(t, s)
	for range 7 {
		_, err := s.Lookup(t.Context(), r.Digest)
		check(err)
	}
	if runs, err := s.PreparedForLogins(t.Context()); err != nil || runs != 7 {
		t.Errorf("of 7 look-ups, %d were prepared, %v", runs, err)
	}
}
