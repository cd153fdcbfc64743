// The load under which tiers fail.

package cache

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// loadAgents is agents, each with a token of its own, that ask a daemon all the time: old things, which it has in memory, and
// new ones, for which it asks every tier. Each answer is checked: no error, the agent's own, and what was asked for.
type loadAgents struct {
	t    *testing.T
	stop context.CancelFunc
	wg   sync.WaitGroup
	next atomic.Int64 // the number of the next new item

	mu      sync.Mutex
	answers int
	slowest time.Duration
	faults  []string
	changed chan struct{} // closed and replaced at every answer
}

// loadSize is how many agents there are, loadPause how long each waits between two requests.
const (
	loadSize  = 4
	loadPause = 10 * time.Millisecond
)

// startLoad begins to ask the upstream s, whose server is a ModernServer that lets everybody in.
func startLoad(t *testing.T, d *harness.Daemon) *loadAgents {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &loadAgents{t: t, stop: cancel, changed: make(chan struct{})}
	c.next.Store(1000)
	for i := range loadSize {
		who, a := fmt.Sprintf("agent-%d", i), d.Agent(t)
		c.wg.Go(func() { c.ask(ctx, a, who) })
	}
	t.Cleanup(c.end)
	return c
}

// end waits for the last answers. Any fault fails the test.
func (c *loadAgents) end() {
	c.t.Helper()
	c.stop()
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, fault := range c.faults {
		if i == 3 {
			c.t.Errorf("and %d more", len(c.faults)-i)
			break
		}
		c.t.Error(fault)
	}
	c.faults = nil
}

func (c *loadAgents) ask(ctx context.Context, a *harness.Agent, who string) {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; turn++ {
		c.one(a, who, turn)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// one makes one request.
func (c *loadAgents) one(a *harness.Agent, who string, turn int) {
	method, uri := "resources/read", ""
	switch turn % 4 {
	case 0:
		method = "tools/list"
	case 1:
		uri = harness.Item(turn / 4 % 3)
	default:
		uri = harness.Item(int(c.next.Add(1)))
	}
	params := ""
	if uri != "" {
		params = fmt.Sprintf(`"uri":%q`, uri)
	}
	got, err := a.TryAsk("/mcp/s", method, params, harness.Bearer(who))
	fault := ""
	switch {
	case err != nil:
		fault = err.Error()
	case got.Status != http.StatusOK || got.Fault != nil || got.Principal != who:
		fault = fmt.Sprintf("%d, for %q: %s", got.Status, got.Principal, got.Body)
	case uri != "" && !strings.HasPrefix(got.Text, uri+" for "+who+","):
		fault = fmt.Sprintf("asked for %s: %s", uri, got.Text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	c.slowest = max(c.slowest, got.Took)
	if fault != "" {
		c.faults = append(c.faults, fmt.Sprintf("%s as %s: %s", method, who, fault))
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// lap returns how long the slowest answer since the last lap took.
func (c *loadAgents) lap() (slowest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slowest, c.slowest = c.slowest, 0
	return slowest
}

// awaitMore waits for so many more answers.
func (c *loadAgents) awaitMore(n int) {
	c.t.Helper()
	deadline := time.After(harness.MaxWait)
	for target := -1; ; {
		c.mu.Lock()
		if target < 0 {
			target = c.answers + n
		}
		answers, changed := c.answers, c.changed
		c.mu.Unlock()
		if answers >= target {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("%d answers of %d within %v", n-(target-answers), n, harness.MaxWait)
		}
	}
}
