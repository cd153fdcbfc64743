// A cancellation reaches the server of a call whose answer has begun.

package cache

import (
	"fmt"
	"net/http"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestCancelBegunAnswer: the server knows a call by its agent's own id, and the cancellation passes as it is, while the
// streamed answer is open and once that has ended.
func TestCancelBegunAnswer(t *testing.T) {
	t.Parallel()
	session := []string{"Mcp-Session-Id: s1", "MCP-Protocol-Version: 2025-11-25"}
	done := mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		switch {
		case x.Method() == "initialize":
			x.Result(`{"protocolVersion":"2025-11-25","capabilities":{"prompts":{}},"serverInfo":{"name":"s","version":"1"}}`, "Mcp-Session-Id: s1")
		case x.Method() == "prompts/get":
			st := x.Stream()
			st.Event(harness.ProgressMessage)
			x.Wait(done.Opened())
			st.Answer(`{"messages":[]}`)
			st.End()
		default:
			mcptest.Minimal(x)
		}
	})
	a := harness.Start(t, harness.OneUpstream(s.URL(), "")).Agent(t)
	a.Post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"a","version":"1"}}}`)
	l := a.Listen(http.MethodPost, "/mcp/s", harness.Request("7", "prompts/get"), session...)
	if e := l.Next(); e.Data != harness.ProgressMessage {
		t.Fatalf("the first event is %+v", e)
	}
	if id := s.AwaitRequest(2).ID(); id != "7" {
		t.Errorf("the call went up as %s", id)
	}
	cancelled := func(id string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0", "method":"notifications/cancelled","params":{"requestId":%s,"reason":"7"} }`, id)
	}
	tells := func(n int, want string) {
		t.Helper()
		if r := a.Post(cancelled("7"), session...); r.Status != http.StatusAccepted {
			t.Errorf("the cancellation got %d %s", r.Status, r.Body)
		}
		if got := string(s.AwaitRequest(n).Body); got != want {
			t.Errorf("the server was told %s, want %s", got, want)
		}
	}
	tells(3, cancelled("7"))
	done.Open()
	if e := l.Next(); e.Data != `{"jsonrpc":"2.0","id":7,"result":{"messages":[]}}` {
		t.Errorf("the answer is %+v", e)
	}
	l.CleanEnd(harness.Soon)
	tells(4, cancelled("7"))
}
