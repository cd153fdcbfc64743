package e2e

import (
	"fmt"
	"net/http"
	"testing"

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
			st.Event(progress)
			x.Wait(done.Opened())
			st.Answer(`{"messages":[]}`)
			st.End()
		default:
			mcptest.Minimal(x)
		}
	})
	a := runSidecar(t, one(s.URL(), "")).agent(t)
	a.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"a","version":"1"}}}`)
	l := a.listen(http.MethodPost, "/mcp/s", request("7", "prompts/get"), session...)
	if e := l.next(); e.data != progress {
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
		if r := a.post(cancelled("7"), session...); r.status != http.StatusAccepted {
			t.Errorf("the cancellation got %d %s", r.status, r.body)
		}
		if got := string(s.AwaitRequest(n).Body); got != want {
			t.Errorf("the server was told %s, want %s", got, want)
		}
	}
	tells(3, cancelled("7"))
	done.Open()
	if e := l.next(); e.data != `{"jsonrpc":"2.0","id":7,"result":{"messages":[]}}` {
		t.Errorf("the answer is %+v", e)
	}
	l.cleanEnd(soon)
	tells(4, cancelled("7"))
}
