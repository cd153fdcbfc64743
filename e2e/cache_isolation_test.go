package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestIsolation has two credentials ask one server for the same things at the same time, through two daemons that share
// their tiers: each answer that is private says that it was made for whoever got it.
func TestIsolation(t *testing.T) {
	t.Parallel()
	m := startModern(t, modernOptions{hint: hint{10 * time.Minute, "private"}, tokens: map[string]string{"a": "ada", "b": "bob"}})
	m.say("prompts/list", hint{10 * time.Minute, "public"})
	c := tiering{redis: redisAt(startRedis(t).url()), database: databaseAt(startPostgres(t).url()), key: sharedKey(t)}
	daemons := []*sidecar{c.run(t, m.url, newPlaces(t)), c.run(t, m.url, newPlaces(t))}
	const agents, requests = 10, 50
	var wg sync.WaitGroup
	for i := range agents {
		token, owner, a := "a", "ada", daemons[i/2%2].agent(t)
		if i%2 == 1 {
			token, owner = "b", "bob"
		}
		random := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			for range requests {
				q := isolationQuestions[random.IntN(len(isolationQuestions))]
				got, err := a.tryAsk("/mcp/s", q.method, strings.ReplaceAll(q.params, "N", fmt.Sprint(random.IntN(20))), as(token))
				switch {
				case err != nil || got.status != 200 || got.fault != nil:
					t.Errorf("%s as %s: %d %s, %v", q.method, owner, got.status, got.body, err)
				case strings.Contains(q.params, "loose") && atHand.MatchString(got.header.Get("Cache-Status")):
					t.Errorf("a loose %s as %s came from %s", q.method, owner, got.header.Get("Cache-Status"))
				case q.method == "prompts/list": // everybody's
				case got.asker != owner || got.text != "" && !strings.Contains(got.text, " for "+owner):
					t.Errorf("%s as %s: made for %s: %s", q.method, owner, got.asker, got.body)
				}
			}
		})
	}
	wg.Wait()
	hits := map[string]int{}
	for _, d := range daemons {
		after := d.scrape()
		for _, tier := range []string{"memory", "redis", "database"} {
			hits[tier] += after.asked(tier, "hit")
		}
	}
	if hits["memory"] == 0 || hits["redis"] == 0 {
		t.Error("too little came from the cache: what could cross?")
	}
	t.Logf("%d requests, hits by tier: %v", agents*requests, hits)
	testRevoked(t, m, daemons)
}

// testRevoked takes a token back: it is worth nothing from the server's first 401 on, at every daemon.
func testRevoked(t *testing.T, m *modernServer, daemons []*sidecar) {
	m.revoke("b")
	if got := daemons[0].agent(t).ask("/mcp/s", "tools/call", `"name":"echo","arguments":{}`, as("b")); got.status != 401 {
		t.Errorf("a call with a token that was taken back: %d", got.status)
	}
	for i, d := range daemons {
		refused := func() bool { return d.agent(t).ask("/mcp/s", "tools/list", "", as("b")).status == 401 }
		took := within(t, 5*time.Second, "the token is refused", refused)
		t.Logf("refused by daemon %d after %v", i, took.Round(time.Millisecond))
		for _, q := range isolationQuestions {
			if got := d.agent(t).ask("/mcp/s", q.method, strings.ReplaceAll(q.params, "N", "1"), as("b")); got.status != 401 {
				t.Errorf("%s with a token that was taken back: %d, %s", q.method, got.status, got.header.Get("Cache-Status"))
			}
		}
	}
}

var isolationQuestions = []struct{ method, params string }{
	{"tools/list", ""}, {"prompts/list", ""}, {"resources/list", ""}, {"server/discover", ""}, {"resources/read", `"uri":"item://N"`},
	{"resources/read", `"uri":"item://N"`}, {"tools/call", `"name":"echo","arguments":{"n":N}`},
	{"resources/read", `"uri":"item://N","loose":"\ud83d"`}, {"tools/call", `"name":"echo","arguments":{"n":N,"loose":"` + "\xe9" + `"}`},
}
