// The faults of servers, and what an agent must get for each.

package dispatch

import (
	"strings"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// fault is what a server does to a request, and what the agent must get for it.
type fault struct {
	name   string
	script mcptest.Script
	method string // of the request; tools/call has longer timeouts than the others
	code   int
	reason string        // several, separated by blanks, where the kernel decides
	sent   string        // the same
	after  time.Duration // the timeout that it runs into; 0 where none is needed to notice it
	before string        // the data of an event that must have passed before the error
}

func faults() []fault {
	const list, call = "tools/list", "tools/call"
	event := func(text string) mcptest.Script { return mcptest.Streaming(mcptest.EventText(text)) }
	return []fault{
		{"reset before the head", mcptest.ResetBeforeHead, call, 1502, "broke_off", "unknown", 0, ""},
		{"closed before the head", mcptest.CloseBeforeHead, call, 1502, "broke_off", "unknown", 0, ""},
		{"reset in the head", mcptest.ResetInHead, call, 1502, "broke_off", "unknown yes", 0, ""},
		{"reset after the head", mcptest.ResetAfterHead, call, 1502, "broke_off", "yes unknown", 0, ""},
		{"reset in mid-body", mcptest.ResetInBody, call, 1502, "broke_off", "yes", 0, ""},
		{"a cut Content-Length", mcptest.CutLength, call, 1502, "broke_off", "yes", 0, ""},
		{"cut chunks", mcptest.CutChunks, call, 1502, "broke_off", "yes", 0, ""},
		{"reset after a stream's head", mcptest.ResetAfterStreamHead, call, 1502, "broke_off", "yes unknown", 0, ""},
		{"reset in mid-event", mcptest.ResetInEvent, call, 1502, "broke_off", "yes", 0, harness.ProgressMessage},
		{"a stream's end without the answer", mcptest.EndBeforeAnswer, call, 1502, "broke_off", "yes", 0, harness.ProgressMessage},

		{"hung, a list", mcptest.Hang, list, 1504, "first_byte_timeout", "unknown", harness.HeadTimeout, ""},
		{"hung, a tool", mcptest.Hang, call, 1504, "call_timeout", "unknown", harness.CallTimeout, ""},
		{"stalled in mid-body, a list", mcptest.Stalling, list, 1504, "idle_timeout", "yes", harness.HeadTimeout, ""},
		{"stalled stream, a list", mcptest.StallingStream, list, 1504, "idle_timeout", "yes", harness.HeadTimeout, harness.ProgressMessage},
		{"stalled stream, a tool", mcptest.StallingStream, call, 1504, "call_timeout", "yes", harness.CallTimeout, harness.ProgressMessage},
		{"a body that trickles for ever", tricklingBody, list, 1504, "call_timeout", "yes", harness.CallTimeout, ""},
		{"an event that trickles for ever", tricklingEvent, list, 1504, "call_timeout", "yes", harness.CallTimeout, ""},

		{"an event over the limit", event(`{"jsonrpc":"2.0","method":"x","params":{"p":"` + strings.Repeat("x", 70<<10) + `"}}`), list, 1502, "bad_answer", "yes", 0, ""},
		{"not HTTP", func(x *mcptest.Exchange) { x.Write("SSH-2.0-OpenSSH_9.6\r\n\r\n") }, call, 1502, "bad_answer", "unknown yes", 0, ""},
		{"a length and chunks", lengthAndChunks, call, 1502, "bad_answer broke_off", "yes unknown", 0, ""},
		{"a redirect elsewhere", mcptest.Saying(307, "", "", "Location: http://127.0.0.2:9/mcp"), call, 1502, "redirect", "yes", 0, ""},
		{"redirects without end", mcptest.Saying(308, "", "", "Location: /mcp"), call, 1502, "redirect", "yes", 0, ""},
	}
}

func tricklingBody(x *mcptest.Exchange) {
	x.Write(mcptest.Head(200, "application/json", "Content-Length: 1000"))
	x.Trickle(strings.Repeat(" ", 1000), 20*time.Millisecond)
}

func tricklingEvent(x *mcptest.Exchange) {
	x.Write(mcptest.Head(200, "text/event-stream", "Connection: close"))
	x.Trickle("data: "+strings.Repeat(" ", 1000), 20*time.Millisecond)
}

// lengthAndChunks answers with both, the mark of a smuggled answer, and a length that is not the body's.
func lengthAndChunks(x *mcptest.Exchange) {
	x.Write(mcptest.Head(200, "application/json", "Content-Length: 5", "Content-Length: 7") + "{}")
}
