// Whatever fails, no agent gets a wrong answer, nothing is done twice, and everything works again soon after.

package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// The bounds of the chaos run's daemon, and what agents allow for them on a machine that does other things as well.
const (
	chaosTimeouts = ", timeouts: {connect: 1s, handshake: 2s, first_byte: 2s, idle: 2s, call: 4s}, pool: {idle_timeout: 1s, wait_timeout: 1s}, " +
		"limits: {max_in_flight: 64, queue: 128, queue_wait: 1s}"
	chaosPromise  = 12 * time.Second // three tries of 3 s or one of 5 s, after a second in the queue and one for a connection
	chaosDeadline = 40 * time.Second // what is not answered by then is lost
	chaosAgents   = 50
	chaosMemory   = 128 << 20 // bytes by which the daemon's memory may have grown
)

// chaosRun is a daemon, the servers behind it and the agents before it.
type chaosRun struct {
	origin    string
	upstreams []*chaosUpstream
	agents    []*chaosAgent
	ledger    *ledger
	redis     *harness.RedisServer
	postgres  *harness.PostgresServer
	memory    string // how large the cache in memory may be
}

// TestChaos has 50 agents work while servers and the cache's tiers are killed, hung, slowed, cut off in both forms and made
// to answer 503, and then compares what the agents were told with what the servers did. Nothing may run twice, be made up,
// crossed, or lost without an error; in the end everything works and the daemon holds what it held before.
//
// CHAOS_SECONDS is how long the storm lasts (10 by default), CHAOS_SEED what it does and to whom.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, "CHAOS_SEED", int(time.Now().UnixNano()&0xffff_ffff)))
	length := time.Duration(number(t, "CHAOS_SECONDS", 10)) * time.Second
	t.Logf("CHAOS_SEED=%d CHAOS_SECONDS=%.0f", seed, length.Seconds())
	run := newChaosRun(t, seed)
	d := run.daemon(t, harness.Config{})
	run.origin = d.URL("")

	run.visitAll(t)
	before := run.awaitIdle(t, d)

	s := run.storm(rand.New(rand.NewPCG(seed, 0)))
	run.live(t, func() { s.run(length) })
	t.Logf("harm done: %v", s.done)
	begun := time.Now()
	run.visitAll(t)
	run.heal(t, d)
	t.Logf("everything worked again after %v", time.Since(begun).Round(time.Millisecond))
	run.holdsNoMore(t, d, before)

	journals := map[string]string{}
	for _, u := range run.upstreams {
		for _, server := range u.servers {
			server.End()
		}
		journals[u.name] = u.did(t)
	}
	run.ledger.judge(journals)
	run.ledger.report(t)
	run.happened(t)
}

// number is a number of the environment.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, text, err)
	}
	return n
}

func newChaosRun(t testing.TB, seed uint64) *chaosRun {
	run := &chaosRun{ledger: newLedger(), redis: harness.StartRedis(t), postgres: harness.StartPostgres(t), memory: "16MiB"}
	for _, u := range []struct {
		name, kind string
		servers    int
	}{
		{"modern", "modern+changes", 1}, {"replicas", "modern", 2}, {"sessions", "sessions", 1}, {"homes", "sessions", 2},
		{"stateless", "stateless", 1}, {"plain", "plain", 1}, {"steady", "modern", 1},
	} {
		run.upstreams = append(run.upstreams, startFaulty(t, u.name, u.kind, u.servers))
	}
	for i := range chaosAgents {
		a := run.agent(fmt.Sprint("agent-", i), []string{"ada", "bob"}[i%2], rand.New(rand.NewPCG(seed, uint64(i)+1)))
		t.Cleanup(a.http.CloseIdleConnections)
		run.agents = append(run.agents, a)
	}
	return run
}

// agent makes an agent with connections of its own, which its caller closes.
func (run *chaosRun) agent(name, who string, r *rand.Rand) *chaosAgent {
	tr := &http.Transport{MaxIdleConnsPerHost: 8, DisableCompression: true}
	return &chaosAgent{run: run, name: name, who: who, rand: r, http: &http.Client{Transport: tr}, opens: map[string]string{}}
}

// daemon starts the daemon before all upstreams, and those that c has.
func (run *chaosRun) daemon(t testing.TB, c harness.Config) *harness.Daemon {
	c.Args = append(c.Args, "--log-level", "warn")
	c.Top = fmt.Sprintf("drain: 2s\nrpc: {timeout: 20s}\ncache: {memory: {size: %s}, redis: {url: %q, timeout: 500ms}, "+
		"database: {url: %q, timeout: 500ms, private_reads: true}}", run.memory, run.redis.URL(), run.postgres.URL())
	upstreams := maps.Clone(c.Upstreams)
	if upstreams == nil {
		upstreams = map[string]string{}
	}
	for _, u := range run.upstreams {
		upstreams[u.name] = fmt.Sprintf("{%s%s}", u.urls(), settings(u))
	}
	c.Upstreams = upstreams
	return harness.Start(t, c)
}

// settings of an upstream. The one that nobody harms has the defaults, which no machine is too slow for.
func settings(u *chaosUpstream) string {
	switch {
	case u.name == "steady":
		return ", pool: {idle_timeout: 1s}"
	case u.kind == "plain":
		return chaosTimeouts + ", protocol: jsonrpc, batch: {max: 20, window: 5ms}, retry: {methods: [get]}, cache: {ttl: {get: 1s}}"
	case u.name == "replicas":
		return chaosTimeouts + ", streams: {reopen: 3s}, retry: {hedge: true}"
	case u.name == "homes":
		return chaosTimeouts + ", streams: {reopen: 3s}, sessions: {heal: all}"
	}
	return chaosTimeouts + ", streams: {reopen: 3s}"
}

// storm is everything that may be done to everybody but `steady`, and what else is given.
func (run *chaosRun) storm(r *rand.Rand, more ...harm) *storm {
	byKind := map[string][]harm{}
	for _, u := range run.upstreams {
		if u.name == "steady" {
			continue
		}
		for _, server := range u.servers {
			server.harms(r, u, byKind)
		}
	}
	for _, h := range more {
		byKind[h.kind] = append(byKind[h.kind], h)
	}
	tierHarms(run.redis.TierServer, "redis", " of Redis", byKind)
	tierHarms(run.postgres.TierServer, "postgres", " of Postgres", byKind)
	return newStorm(r, byKind)
}

// live has all agents live while something happens. When it is over they leave, whatever they were about.
func (run *chaosRun) live(t testing.TB, while func()) {
	ctx, leave := context.WithCancel(t.Context())
	var alive sync.WaitGroup
	defer alive.Wait()
	defer leave()
	for _, a := range run.agents {
		alive.Go(func() { a.live(ctx) })
	}
	while()
}

// note takes down how a request ended.
func (run *chaosRun) note(u *chaosUpstream, what string, v callResult, took time.Duration) {
	if v.fault != nil {
		run.ledger.fault("%s, %s: %v", u.name, what, v.fault)
		return
	}
	run.ledger.count(u.name, v.label, took)
}
