package session_test

import (
	"context"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// BenchmarkCall is what the stage costs beside passing on ("off"): a call of no session, of a session, and of one that
// was healed.
func BenchmarkCall(b *testing.B) {
	for _, c := range []struct {
		name   string
		heal   session.Heal
		within bool
		healed bool
	}{
		{"off", session.HealOff, true, false}, {"sessionless", session.HealReads, false, false},
		{"session", session.HealReads, true, false}, {"healed", session.HealAll, true, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newFakeServer()
			answer := &mcp.Result{Status: 200, Checked: true, Body: []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)}
			must(mcp.Scan(answer.Body, &answer.Message))
			measured := false
			next := mcp.CallerFunc(func(ctx context.Context, call *mcp.Call) (*mcp.Result, error) {
				if measured {
					return answer, nil
				}
				return w.Call(ctx, call)
			})
			a := &agent{w: w, token: "one", stage: session.New(session.Options{
				Upstream: "s", Next: next, Heal: c.heal, Credential: func(*mcp.Call) [32]byte { return [32]byte{} },
			})}
			defer a.stage.Close()
			ask := func(text string) {
				res, err := a.post(b.Context(), text)
				must(err)
				if id := res.Header.Get("Mcp-Session-Id"); a.id == "" && c.within {
					a.id = id
				}
				must(res.Close())
			}
			ask(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}`)
			if c.healed {
				w.restart()
				ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
			}
			measured = true
			call := a.call(mcp.LaneRequest, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}`)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.stage.Call(context.Background(), call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
