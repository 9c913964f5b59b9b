package servers_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
)

func TestPgBouncerSharesAConnection(t *testing.T) {
	t.Parallel()
	ctx := within(t, 20*time.Second)
	server, err := servers.StartPostgreSQL("fsync=off")
	server = started(t, server, err)
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 1")
	pooler = started(t, pooler, err)

	pid := func() (n int) {
		conn, err := pgx.Connect(ctx, pooler.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(ctx) })
		if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b := pid(), pid(); a != b {
		t.Errorf("two clients have the server's processes %d and %d, want one", a, b)
	}
	if err := pooler.Kill(); err != nil {
		t.Fatal(err)
	}
	if conn, err := pgx.Connect(ctx, pooler.URL("postgres")); err == nil {
		conn.Close(ctx)
		t.Error("a killed pooler answers")
	}
	if err := pooler.Serve(); err != nil {
		t.Fatal(err)
	}
	pid()
}

func TestPausedPostgreSQLDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server, err := servers.StartPostgreSQL("fsync=off")
	server = started(t, server, err)
	conn, err := pgx.Connect(within(t, 20*time.Second), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(within(t, 100*time.Millisecond)); err == nil {
		t.Error("a paused server answers on an old connection")
	}
	if err := server.Exec(within(t, 100*time.Millisecond), "SELECT 1"); err == nil {
		t.Error("a paused server answers on a new connection")
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := server.Exec(within(t, 20*time.Second), "SELECT 1"); err != nil {
		t.Error(err)
	}
	if err := server.Pause(); err != nil { // and such a one ends all the same
		t.Fatal(err)
	}
}

// What runs a query does not see that its parent is gone before that has ended.
func TestKilledPostgreSQLStartsAgainAtOnce(t *testing.T) {
	t.Parallel()
	server, err := servers.StartPostgreSQL("fsync=off")
	server = started(t, server, err)
	ctx := within(t, 20*time.Second)
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "SET statement_timeout = '1s'"); err != nil {
		t.Fatal(err)
	}
	busy := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "DO 'BEGIN LOOP END LOOP; END'")
		busy <- err
	}()
	time.Sleep(200 * time.Millisecond) // until it is under way
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Serve("fsync=off"); err != nil {
		t.Error(err)
	}
	if err := <-busy; err == nil {
		t.Error("a loop without an end has ended")
	}
}

func ended(t *testing.T, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Error(err)
	}
}
