// Thousands of calls at once: no answer is cut, crossed or lost.

package relay

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestNoLoss: 2,000 calls one after another and 4 x 2,000 at once, for each size of answer and in both forms. None is
// cut, none is crossed, every id comes back as it was sent. The peers check every byte.
//
// The large answers are a tenth as many, to bound the time; E2E_FULL=1 makes them as many as the small ones.
func TestNoLoss(t *testing.T) {
	_, url := harness.StartUpstream(t)
	c := harness.OneUpstream(url, "")
	c.Plain = true
	c.Args = []string{"--log-level", "warn"}
	d := harness.Start(t, c)
	for _, load := range []struct {
		name     string
		size     int
		calls    int
		parallel int
	}{
		{"200 B", 100, 2000, 1}, // the envelope is about another hundred
		{"200 B at once", 100, 4 * 2000, 4},
		{"10 KB", 10_000, 2000, 1},
		{"10 KB at once", 10_000, 4 * 2000, 4},
		{"1 MB", 1_000_000, large(2000), 1},
		{"1 MB at once", 1_000_000, 4 * large(2000), 4},
		{"6 MB, over limits.check_body", 6_000_000, large(200), 4},
	} {
		for _, sse := range []bool{false, true} {
			form := map[bool]string{false: "JSON", true: "SSE"}[sse]
			t.Run(load.name+"/"+form, func(t *testing.T) {
				begun := time.Now()
				report := postCalls(t, d.URL("/mcp/s"), load.calls, load.parallel, load.size, sse)
				if report.Whole != load.calls || report.Wrong != 0 {
					t.Errorf("%d of %d calls were answered as they should be; first fault: %s", report.Whole, load.calls, report.First)
				}
				t.Logf("%d calls, %.0f a second", load.calls, float64(load.calls)/time.Since(begun).Seconds())
			})
		}
	}
	if m := d.Scrape(); m.Sum("fluentd_perf_active_connections") != 0 {
		t.Errorf("%v connections are still in use", m.Sum("fluentd_perf_active_connections"))
	}
}

// postReport is what many agents say of its calls.
type postReport struct {
	Whole, Wrong int
	First        string // the first fault
}

func postCalls(t *testing.T, url string, calls, parallel, size int, sse bool) postReport {
	t.Helper()
	p := harness.StartPeer(t, "post", url, fmt.Sprint(calls), fmt.Sprint(parallel), fmt.Sprint(size), fmt.Sprint(sse))
	var report postReport
	p.Receive(3*time.Minute, &report)
	return report
}

// TestLossWouldBeSeen: the agents find what TestNoLoss looks for.
func TestLossWouldBeSeen(t *testing.T) {
	t.Parallel()
	_, url := harness.StartUpstream(t)
	if r := postCalls(t, url, 8, 2, 100, false); r.Whole != 8 {
		t.Fatalf("the server itself: %+v", r)
	}
	for name, script := range map[string]mcptest.Script{
		"cut":          mcptest.CutLength,
		"reset":        mcptest.ResetInBody,
		"crossed":      mcptest.Saying(200, "application/json", `{"jsonrpc":"2.0","id":9007199254740994,"result":{}}`),
		"another text": mcptest.Minimal,
		"an id made a float": func(x *mcptest.Exchange) {
			x.JSON(strings.Replace(x.Answer(mcptest.ToolResult), x.ID(), "9.007199254740993e15", 1))
		},
	} {
		s := mcptest.NewServer(t, script)
		if r := postCalls(t, s.URL(), 8, 2, 100, false); r.Wrong != 8 || r.First == "" {
			t.Errorf("%s: not seen: %+v", name, r)
		}
	}
}

// large is how many of n calls with large answers are made.
func large(n int) int {
	if os.Getenv("E2E_FULL") != "" {
		return n
	}
	return n / 10
}
