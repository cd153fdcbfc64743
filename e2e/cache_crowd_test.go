package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowd is agents, each with a token of its own, that ask a daemon all the time: old things, which it has in memory, and
// new ones, for which it asks every tier. Each answer is checked: no error, the asker's own, and what was asked for.
type crowd struct {
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

// crowdSize is how many agents a crowd has, crowdPause how long each waits between two questions.
const (
	crowdSize  = 4
	crowdPause = 10 * time.Millisecond
)

// startCrowd begins to ask the upstream s, whose server is a modernServer that lets everybody in.
func startCrowd(t *testing.T, d *sidecar) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{t: t, stop: cancel, changed: make(chan struct{})}
	c.next.Store(1000)
	for i := range crowdSize {
		who, a := fmt.Sprintf("crowd-%d", i), d.agent(t)
		c.wg.Go(func() { c.ask(ctx, a, who) })
	}
	t.Cleanup(c.end)
	return c
}

// end waits for the last answers. Any fault fails the test.
func (c *crowd) end() {
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

func (c *crowd) ask(ctx context.Context, a *agent, who string) {
	tick := time.NewTicker(crowdPause)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; turn++ {
		c.one(a, who, turn)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// one asks one question.
func (c *crowd) one(a *agent, who string, turn int) {
	method, uri := "resources/read", ""
	switch turn % 4 {
	case 0:
		method = "tools/list"
	case 1:
		uri = item(turn / 4 % 3)
	default:
		uri = item(int(c.next.Add(1)))
	}
	params := ""
	if uri != "" {
		params = fmt.Sprintf(`"uri":%q`, uri)
	}
	got, err := a.tryAsk("/mcp/s", method, params, as(who))
	fault := ""
	switch {
	case err != nil:
		fault = err.Error()
	case got.status != http.StatusOK || got.fault != nil || got.asker != who:
		fault = fmt.Sprintf("%d, for %q: %s", got.status, got.asker, got.body)
	case uri != "" && !strings.HasPrefix(got.text, uri+" for "+who+","):
		fault = fmt.Sprintf("asked for %s: %s", uri, got.text)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers++
	c.slowest = max(c.slowest, got.took)
	if fault != "" {
		c.faults = append(c.faults, fmt.Sprintf("%s as %s: %s", method, who, fault))
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// lap returns how long the slowest answer since the last lap took.
func (c *crowd) lap() (slowest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	slowest, c.slowest = c.slowest, 0
	return slowest
}

// awaitMore waits for so many more answers.
func (c *crowd) awaitMore(n int) {
	c.t.Helper()
	deadline := time.After(patience)
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
			c.t.Fatalf("%d answers of %d within %v", n-(target-answers), n, patience)
		}
	}
}
