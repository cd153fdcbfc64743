// The notice of a restarted session, for requests that cannot be read.

package session

import (
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestRestartNoticeForSloppyRequests: what may do anything is told that its session began anew, and not sent; once.
func TestRestartNoticeForSloppyRequests(t *testing.T) {
	t.Parallel()
	for _, q := range []struct {
		name, body, id string
		opaque         bool
	}{
		{name: "an array", body: "[" + harness.Request("1", "tools/list") + "]", opaque: true},
		{name: "rubbish", body: "{", opaque: true},
		{name: "a loose call", body: `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"work","arguments":{"token":"\ud800"}}}`, id: "7"},
		{name: "a call behind a mark", body: "\ufeff" + `{"jsonrpc":"2.0","id":"seven","method":"tools/call","params":{"name":"work"}}`, id: `"seven"`},
	} {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := beginSession(t, d)
			f.restart()
			k.right(k.list())
			asked := f.Received()
			r := k.say(q.body)
			harness.CheckFailure(t, r.RPC(t), q.id, "s", 1410, "session_restarted", "no")
			if status := map[bool]int{true: 410, false: 200}[q.opaque]; r.Status != status {
				t.Errorf("HTTP %d, want %d", r.Status, status)
			}
			if n := f.Received(); n != asked {
				t.Errorf("the server got %d of it", n-asked)
			}
			k.say(q.body)
			if got := f.AwaitRequest(asked + 1); string(got.Body) != q.body || got.Get("Mcp-Session-Id") != "s2" {
				t.Errorf("the next one arrived as %q in %q", got.Body, got.Get("Mcp-Session-Id"))
			}
			k.right(k.call("after"))
		})
	}
}
