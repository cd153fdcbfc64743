// An answer never crosses credentials, and a token that the server refuses gets nothing that was kept.

package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestIsolation has two credentials ask one server for the same things at the same time, through two daemons that share
// their tiers: each answer that is private says that it was made for whoever got it.
func TestIsolation(t *testing.T) {
	t.Parallel()
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}, Tokens: map[string]string{"a": "ada", "b": "bob"}})
	m.Say("prompts/list", harness.Hint{TTL: 10 * time.Minute, Scope: "public"})
	c := harness.Tiering{Redis: harness.RedisAt(harness.StartRedis(t).URL()), Database: harness.DatabaseAt(harness.StartPostgres(t).URL()), Key: sharedKey(t)}
	daemons := []*harness.Daemon{c.Run(t, m.URL, harness.NewFolders(t)), c.Run(t, m.URL, harness.NewFolders(t))}
	const agents, requests = 10, 50
	var wg sync.WaitGroup
	for i := range agents {
		token, owner, a := "a", "ada", daemons[i/2%2].Agent(t)
		if i%2 == 1 {
			token, owner = "b", "bob"
		}
		random := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for range requests {
				q := isolationQuestions[random.IntN(len(isolationQuestions))]
				got, err := a.TryAsk("/mcp/s", q.method, strings.ReplaceAll(q.params, "N", fmt.Sprint(random.IntN(20))), harness.Bearer(token))
				switch {
				case err != nil || got.Status != 200 || got.Fault != nil:
					t.Errorf("%s as %s: %d %s, %v", q.method, owner, got.Status, got.Body, err)
				case strings.Contains(q.params, "loose") && harness.AnsweredByCache.MatchString(got.Header.Get("Cache-Status")):
					t.Errorf("a loose %s as %s came from %s", q.method, owner, got.Header.Get("Cache-Status"))
				case q.method == "prompts/list": // everybody's
				case got.Principal != owner || got.Text != "" && !strings.Contains(got.Text, " for "+owner):
					t.Errorf("%s as %s: made for %s: %s", q.method, owner, got.Principal, got.Body)
				}
			}
		})
	}
	wg.Wait()
	hits := map[string]int{}
	for _, d := range daemons {
		after := d.Scrape()
		for _, tier := range []string{"memory", "redis", "database"} {
			hits[tier] += after.Asked(tier, "hit")
		}
	}
	if hits["memory"] == 0 || hits["redis"] == 0 {
		t.Error("too little came from the cache: what could cross?")
	}
	t.Logf("%d requests, hits by tier: %v", agents*requests, hits)
	testRevoked(t, m, daemons)
}

// testRevoked takes a token back: it is worth nothing from the server's first 401 on, at every daemon.
func testRevoked(t *testing.T, m *harness.ModernServer, daemons []*harness.Daemon) {
	m.Revoke("b")
	if got := daemons[0].Agent(t).Ask("/mcp/s", "tools/call", `"name":"echo","arguments":{}`, harness.Bearer("b")); got.Status != 401 {
		t.Errorf("a call with a token that was taken back: %d", got.Status)
	}
	for i, d := range daemons {
		refused := func() bool { return d.Agent(t).Ask("/mcp/s", "tools/list", "", harness.Bearer("b")).Status == 401 }
		took := harness.Within(t, 5*time.Second, "the token is refused", refused)
		t.Logf("refused by daemon %d after %v", i, took.Round(time.Millisecond))
		for _, q := range isolationQuestions {
			if got := d.Agent(t).Ask("/mcp/s", q.method, strings.ReplaceAll(q.params, "N", "1"), harness.Bearer("b")); got.Status != 401 {
				t.Errorf("%s with a token that was taken back: %d, %s", q.method, got.Status, got.Header.Get("Cache-Status"))
			}
		}
	}
}

var isolationQuestions = []struct{ method, params string }{
	{"tools/list", ""}, {"prompts/list", ""}, {"resources/list", ""}, {"server/discover", ""}, {"resources/read", `"uri":"item://N"`},
	{"resources/read", `"uri":"item://N"`}, {"tools/call", `"name":"echo","arguments":{"n":N}`},
	{"resources/read", `"uri":"item://N","loose":"\ud83d"`}, {"tools/call", `"name":"echo","arguments":{"n":N,"loose":"` + "\xe9" + `"}`},
}
