package e2e

import (
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
)

// TestARecordTakesLittleOfRedis: docs/operate.md says how much.
func TestARecordTakesLittleOfRedis(t *testing.T) {
	redis, err := servers.StartRedis()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := redis.Stop(); err != nil {
			t.Error(err)
		}
	})
	server, err := postgreSQL()
	if err != nil {
		t.Fatal(err)
	}
	database, err := server.NewDatabase(t.Context(), "template0")
	if err != nil {
		t.Fatal(err)
	}
	site := newSite(t)
	reconfigure(t, site, "sqlite:"+site.Path("state/tokend.db"), server.URL(database)+"\"\n[cache]\nurl = \"redis://"+redis.Addr())
	start(t, site)
	user := "alice"
	good := create(t, site, user, "never")
	exec := func(args ...any) any {
		t.Helper()
		answer, err := redis.Exec(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	records := map[any]int64{}
	for begun := time.Now(); len(records) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("no record is in Redis")
		}
		wantYes(t, agent{user: &user, password: good}.run(t, site)) // it is kept as soon as Redis is used
		for _, name := range exec("KEYS", "tokend:*").([]any) {
			if name != "tokend:probe" {
				records[name] = exec("MEMORY", "USAGE", name).(int64)
			}
		}
	}
	for _, bytes := range records {
		t.Logf("%d bytes", bytes)
		if len(records) != 1 || bytes > 400 {
			t.Errorf("%d records, one of %d bytes", len(records), bytes)
		}
	}
}
