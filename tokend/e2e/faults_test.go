package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tokend/tokend/e2e/servers"
)

// must is for what a fault does.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func nothing(*testing.T, *grid) {}

// script has Redis do something to all that is in it.
func script(text string) func(*testing.T, *grid) {
	return func(t *testing.T, g *grid) {
		_, err := g.redis.Exec(t.Context(), "EVAL", text+" return 1", 0)
		must(t, err)
	}
}

func inRedis(args ...any) func(*testing.T, *grid) {
	return func(t *testing.T, g *grid) {
		_, err := g.redis.Exec(t.Context(), args...)
		must(t, err)
	}
}

// ended counts the connections to Redis that a row has ended: with none it would show nothing.
type ended struct{ n atomic.Int64 }

var connections ended

func (e *ended) end(t *testing.T, g *grid) {
	n, err := g.redis.Exec(t.Context(), "CLIENT", "KILL", "TYPE", "normal")
	must(t, err)
	e.n.Add(n.(int64))
}

func (e *ended) wereEnded(t *testing.T, g *grid) {
	if n := e.n.Swap(0); n < int64(len(g.nodes)) {
		t.Errorf("%d connections were ended", n)
	}
}

func killRedis(t *testing.T, g *grid)   { must(t, g.redis.Kill()) }
func serveRedis(t *testing.T, g *grid)  { must(t, g.redis.Serve()) }
func pauseRedis(t *testing.T, g *grid)  { must(t, g.redis.Pause()) }
func resumeRedis(t *testing.T, g *grid) { must(t, g.redis.Resume()) }

// slowRedis has what Redis says, to whatever node, be late.
func slowRedis(by func(fromClient bool, chunk []byte) time.Duration) func(*testing.T, *grid) {
	return func(_ *testing.T, g *grid) {
		for _, n := range g.nodes {
			n.toCache.Delay(by)
		}
	}
}

// findAgain waits until each node has found a record in Redis, where none was left. That is
// all that is sure to be seen of what is over in a moment.
func findAgain(t *testing.T, g *grid) {
	for i, n := range g.nodes {
		before := scrape(t, n.metrics)[hits]
		eventually(t, fmt.Sprintf("node %d uses Redis", i), func() error {
			if now := scrape(t, n.metrics)[hits]; now <= before {
				return fmt.Errorf("there were %v hits, as before", now)
			}
			return nil
		})
	}
}

func killDatabase(t *testing.T, g *grid)   { must(t, g.database.Kill()) }
func serveDatabase(t *testing.T, g *grid)  { must(t, serveAgain(t, g.database)) }
func endDatabase(t *testing.T, g *grid)    { must(t, g.database.Shut()) }
func pauseDatabase(t *testing.T, g *grid)  { must(t, g.database.Pause()) }
func resumeDatabase(t *testing.T, g *grid) { must(t, g.database.Resume()) }

// serveAgain waits until what is left of a server that was killed has ended.
func serveAgain(t *testing.T, p *servers.PostgreSQL, settings ...string) error {
	return within30(t.Context(), func() error { return p.Serve(settings...) })
}

func both(f, g func(*testing.T, *grid)) func(*testing.T, *grid) {
	return func(t *testing.T, on *grid) {
		f(t, on)
		g(t, on)
	}
}

const (
	allStrings = `local function strings() local all = {}
		for _, k in ipairs(redis.call('KEYS', 'tokend:*')) do if redis.call('TYPE', k).ok == 'string' then table.insert(all, k) end end
		return all end `
	toLists = `for _, k in ipairs(redis.call('KEYS', 'tokend:*')) do redis.call('DEL', k) redis.call('RPUSH', k, 'x') end`
	tamper  = allStrings + `for _, k in ipairs(strings()) do local v = redis.call('GET', k)
		redis.call('SET', k, v:sub(1, -2) .. string.char(((v:byte(-1) or 0) + 1) % 256), 'KEEPTTL') end`
	swap = allStrings + `local keys, values = strings(), {}
		for i, k in ipairs(keys) do values[i] = redis.call('GET', k) end
		for i, k in ipairs(keys) do redis.call('SET', k, values[i % #keys + 1], 'KEEPTTL') end`
	keep    = `for _, k in ipairs(redis.call('KEYS', 'tokend:*')) do redis.call('COPY', k, 'kept:' .. k, 'REPLACE') end`
	putBack = `for _, k in ipairs(redis.call('KEYS', 'kept:*')) do redis.call('COPY', k, k:sub(6), 'REPLACE') end`
)

var redisFaults = []fault{
	{
		name: "Redis killed", inflict: killRedis, heal: serveRedis, through: []int{0, 1},
		hit: everyNode, says: noCache, down: cacheDown, grows: []string{cacheFail, pending},
	},
	{
		name: "Redis stopped (SIGSTOP)", inflict: pauseRedis, heal: resumeRedis, through: []int{0, 1},
		hit: everyNode, says: noCache, down: cacheDown, grows: []string{cacheFail, pending},
	},
	{
		name: "Redis answers late", through: []int{0, 1},
		inflict: slowRedis(func(fromClient bool, _ []byte) time.Duration {
			if fromClient {
				return 0
			}
			return 200 * time.Millisecond
		}),
		heal: slowRedis(nil),
		hit:  everyNode, says: noCache, down: cacheDown, grows: []string{cacheFail, pending},
	},
	{
		name: "Redis restarted empty", inflict: both(both(killRedis, serveRedis), findAgain), heal: nothing, through: []int{1},
		hit: everyNode, says: "ready",
	},
	{
		name: "FLUSHALL, again and again", inflict: nothing, again: inRedis("FLUSHALL"), heal: nothing, through: []int{1},
		hit: everyNode, says: "ready", often: misses,
	},
	{
		name: "Redis full (noeviction)", inflict: inRedis("CONFIG", "SET", "maxmemory", "1"), heal: inRedis("CONFIG", "SET", "maxmemory", "0"), through: []int{0},
		hit: everyNode, says: noCache, down: cacheDown, grows: []string{pending},
	},
	{
		name: "keys of the wrong type", inflict: nothing, again: script(toLists), heal: inRedis("FLUSHALL"), through: []int{1},
		hit: everyNode, says: "ready", grows: []string{tampering},
	},
	{
		name: "values tampered with", inflict: nothing, again: script(tamper), heal: nothing, through: []int{1},
		hit: everyNode, says: "ready", grows: []string{tampering},
	},
	{
		name: "values swapped between tokens", inflict: nothing, again: script(swap), heal: nothing, through: []int{1},
		hit: everyNode, says: "ready", grows: []string{tampering},
	},
	{
		name: "older values put back", inflict: script(keep), again: script(putBack), heal: inRedis("FLUSHALL"), through: []int{1},
		hit: everyNode, says: "ready", often: tooOld,
	},
	{
		name: "the connections to Redis ended, again and again", inflict: nothing, again: connections.end, heal: connections.wereEnded, through: []int{1},
		hit: everyNode, says: "ready",
	},
}

var secureFaults = []fault{
	{
		name: "Redis with TLS killed", inflict: killRedis, heal: serveRedis, through: []int{0, 1},
		hit: everyNode, says: noCache, down: cacheDown, grows: []string{cacheFail, pending},
	},
	{
		name: "the connections to a Redis with TLS ended, again and again", inflict: nothing, again: connections.end, heal: connections.wereEnded, through: []int{1},
		every: 500 * time.Millisecond, hit: everyNode, // a handshake takes its time, so that they may say both
	},
	{
		name: "Redis with TLS restarted empty, and PostgreSQL killed then", inflict: both(both(killRedis, serveRedis), both(findAgain, killDatabase)), heal: serveDatabase,
		hit: everyNode, says: noNews, down: storeDown, grows: []string{believed},
	},
}

var databaseFaults = []fault{
	{
		name: "PostgreSQL killed", inflict: killDatabase, heal: serveDatabase,
		hit: everyNode, says: noNews, down: storeDown, grows: []string{believed},
	},
	{
		name: "PostgreSQL stopped (SIGSTOP)", inflict: pauseDatabase, heal: resumeDatabase, lasts: 6 * time.Second,
		hit: everyNode, says: noNews, down: storeDown, grows: []string{believed},
	},
	{
		name: "PostgreSQL shut down", inflict: endDatabase, heal: serveDatabase, lasts: 6 * time.Second,
		hit: everyNode, says: noNews, down: storeDown, grows: []string{believed},
	},
	{
		name: "its connections ended, again and again", inflict: nothing, heal: nothing, through: []int{0, 1},
		again: func(t *testing.T, g *grid) {
			must(t, g.database.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokend'`))
		},
		hit: everyNode, says: "ready", logs: `"changes by other daemons are heard of again"`,
	},
	{
		name: "both killed", inflict: both(killDatabase, killRedis), heal: both(serveRedis, serveDatabase),
		hit: everyNode, says: noStore, down: allDown, grows: []string{cacheFail}, dark: everyNode, blindAfter: 3 * time.Second,
	},
	{
		name: "both stopped (SIGSTOP)", inflict: both(pauseDatabase, pauseRedis), heal: both(resumeDatabase, resumeRedis),
		hit: everyNode, says: noStore, down: allDown, grows: []string{cacheFail}, dark: everyNode, blindAfter: 3 * time.Second,
	},
}

const shortTTL, shortStale = time.Second, 3 * time.Second

var longFaults = []fault{{
	name: "PostgreSQL killed for longer than ttl + stale", inflict: killDatabase, heal: serveDatabase, lasts: 7 * time.Second,
	hit: everyNode, says: noStore, down: storeDown, grows: []string{believed},
	dark: everyNode, darkAfter: shortStale - time.Second/2, blindAfter: shortTTL + shortStale + time.Second/2,
}, {
	name: "PostgreSQL stopped for longer than that", inflict: pauseDatabase, heal: resumeDatabase, lasts: 7 * time.Second,
	hit: everyNode, says: noStore, down: storeDown, grows: []string{believed},
	dark: everyNode, darkAfter: shortStale - time.Second/2, blindAfter: shortTTL + shortStale + time.Second/2,
}}

// lost is the node that loses its way.
const lost = 2

func toCache(f func(*servers.Proxy)) func(*testing.T, *grid) {
	return func(_ *testing.T, g *grid) { f(g.nodes[lost].toCache) }
}

func toStore(f func(*servers.Proxy)) func(*testing.T, *grid) {
	return func(_ *testing.T, g *grid) { f(g.nodes[lost].toStore) }
}

// Each way of being cut off: the connections end, or all that is sent gets lost.
var (
	cut, hang, mend = (*servers.Proxy).Cut, (*servers.Proxy).Hang, (*servers.Proxy).Heal

	networkFaults = []fault{
		cutFromCache("a node cut off from Redis", cut),
		cutFromCache("a node cut off from Redis, without a word", hang),
		cutFromStore("a node cut off from PostgreSQL", cut),
		cutFromStore("a node cut off from PostgreSQL, without a word", hang),
		cutFromBoth("a node cut off from both", cut),
		cutFromBoth("a node cut off from both, without a word", hang),
		{
			name: "a node cut off from PostgreSQL, another one from Redis", through: []int{1},
			inflict: func(t *testing.T, g *grid) {
				toStore(hang)(t, g)
				g.nodes[1].toCache.Hang()
			},
			heal: func(t *testing.T, g *grid) {
				toStore(mend)(t, g)
				g.nodes[1].toCache.Heal()
			},
			hit: []int{lost}, says: noNews, down: storeDown, grows: []string{believed},
			and: &fault{hit: []int{1}, says: noCache, down: cacheDown, grows: []string{cacheFail, pending}},
		},
	}
)

func cutFromCache(name string, how func(*servers.Proxy)) fault {
	return fault{
		name: name, inflict: toCache(how), heal: toCache(mend), through: []int{0, lost},
		hit: []int{lost}, says: noCache, down: cacheDown, grows: []string{cacheFail, pending},
	}
}

func cutFromStore(name string, how func(*servers.Proxy)) fault {
	return fault{
		name: name, inflict: toStore(how), heal: toStore(mend), through: []int{0},
		hit: []int{lost}, says: noNews, down: storeDown, grows: []string{believed},
	}
}

func cutFromBoth(name string, how func(*servers.Proxy)) fault {
	return fault{
		name: name, inflict: both(toStore(how), toCache(how)), heal: both(toStore(mend), toCache(mend)), through: []int{0},
		hit: []int{lost}, says: noStore, down: allDown, grows: []string{cacheFail}, dark: []int{lost}, blindAfter: 3 * time.Second,
	}
}

var failoverFaults = []fault{{
	name: "PostgreSQL's primary killed, a standby takes over", through: []int{0, 1}, heal: nothing,
	inflict: func(t *testing.T, g *grid) {
		must(t, g.database.Kill())
		for i, n := range g.nodes { // which find only the standby meanwhile
			eventually(t, fmt.Sprintf("node %d believes what it knows", i), func() error {
				return fault{says: noNews, down: storeDown}.shows(t, n, n.account(t))
			})
		}
		must(t, g.standby.Promote())
	},
	hit: everyNode, says: "ready", logs: `"another server has taken over: all that was changed lately is looked at again"`,
}}
