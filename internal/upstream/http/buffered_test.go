package http_test

import (
	"fmt"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// TestBufferedAnswers: an answer for which there is no room streams, whole, by length or in chunks, held for sharing or not;
// what was held is free after Close.
func TestBufferedAnswers(t *testing.T) {
	for _, method := range []string{"tools/list", "tools/call"} {
		for _, size := range []int{100, 40_000} {
			for name, room := range map[string]int64{"none": 10, "for the start": 12 << 10, "for all": 1 << 20} {
				t.Run(fmt.Sprint(method, " ", size, " room ", name), func(t *testing.T) { testBufferedAnswer(t, method, size, room) })
			}
		}
	}
}

func testBufferedAnswer(t *testing.T, method string, size int, room int64) {
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"result":{"x":"%s"}}`, strings.Repeat("y", size))
	chunks := mcptest.Head(200, "application/json", "Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(answer), answer)
	for name, script := range map[string]mcptest.Script{
		"length": mcptest.Saying(200, "application/json", answer), "chunks": rawly(chunks),
	} {
		budget := mcp.NewBudget(room)
		s := mcptest.NewServer(t, script)
		u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.Buffered = budget })
		res := mustCall(t, u, requestOf(method))
		if room > 1<<18 && (res.Raw != nil || budget.Held() < int64(len(answer))) || room < 100 && res.Raw == nil {
			t.Errorf("%s: raw %v, %d bytes held", name, res.Raw != nil, budget.Held())
		}
		if got := textOf(t, res); got != answer {
			t.Errorf("%s: %d bytes came, and they differ", name, len(got))
		}
		closeResult(t, res)
		if got := budget.Held(); got != 0 {
			t.Errorf("%s: %d bytes are held after Close", name, got)
		}
	}
}
