package servers_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tokend/tokend/e2e/servers"
)

func TestPgBouncerSharesAConnection(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	server, err := servers.StartPostgreSQL("fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended(t, server.Stop) })
	pooler, err := servers.StartPgBouncer(server, "default_pool_size = 1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ended(t, pooler.Stop) })

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
}

func ended(t *testing.T, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Error(err)
	}
}
