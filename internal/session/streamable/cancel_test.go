package streamable_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// TestCancelled holds that a cancellation reaches the server under the id that it knows.
func TestCancelled(t *testing.T) {
	x := &scripted{}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		got := make(chan said)
		go func() { got <- a.call(toolCall(1, "hang", "")) }()
		time.Sleep(12 * time.Second)
		cancel := a.make(0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		if f := r.front.GivenUp(cancel, 10*time.Second); f == nil || !f.Silent || f.Waited != 12*time.Second {
			t.Errorf("given up: %+v", f)
		}
		if f := r.front.GivenUp(cancel, 10*time.Second); f != nil {
			t.Errorf("given up again: %+v", f)
		}
		for _, id := range []string{"1", "2"} {
			if got := a.read(a.do(t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`)); got.status != 202 {
				t.Errorf("%+v", got)
			}
		}
		synctest.Wait()
		x.mu.Lock()
		lines := x.lines[len(x.lines)-3:] // the last is a ping
		x.mu.Unlock()
		var id string
		if _, err := fmt.Sscanf(lines[0], `{"jsonrpc":"2.0","id":%16s,`, &id); err != nil || !strings.Contains(lines[1], `"requestId":`+id+`}`) {
			t.Errorf("%s then %s: %v", lines[0], lines[1], err)
		}
		if f := (<-got).failure; f == nil || f.Reason != mcp.ReasonCanceled || !f.Counted {
			t.Errorf("the call ended by %v", f)
		}
	})
}

// stalling is a server of that version which does not read from when it is initialized until gate is closed, and what came after that.
func stalling(version string, gate <-chan struct{}) (start stdio.Start, received func() []mcptest.StdioRequest) {
	var mu sync.Mutex
	var all []mcptest.StdioRequest
	return func(context.Context) (stdio.Process, func(), error) {
			return mcptest.NewStdio(func(s *mcptest.Stdio) {
				for {
					r, ok := s.Next()
					switch {
					case !ok:
						return
					case r.Method == "initialize":
						s.Initialize(r, version)
						continue
					case r.Method == "notifications/initialized":
						<-gate
						continue
					case r.ID != nil:
						s.Result(r, `{"name":"`+r.Params.Name+`"}`)
					}
					mu.Lock()
					all = append(all, r)
					mu.Unlock()
				}
			}), nil, nil
		}, func() []mcptest.StdioRequest {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
}

// TestCancelledBeforeItIsWritten holds that a call which its agent cancels while it waits to be written is never sent, and that one which is
// being written is followed by its cancellation. Other requests of an array go on.
func TestCancelledBeforeItIsWritten(t *testing.T) {
	cancel := func(id int) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id)
	}
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		start, received := stalling(mcp.Version20251125, gate)
		a := newAgent(t, newRig(t, options{start: start}).up)
		a.open(mcp.Version20251125)
		written, waits := make(chan said, 1), make(chan said, 1)
		go func() { written <- a.call(toolCall(1, "written", "")) }()
		synctest.Wait()
		go func() { waits <- a.call(toolCall(2, "waits", "")) }()
		synctest.Wait()
		begun := time.Now()
		if got := a.read(a.do(t.Context(), 0, cancel(2))); got.status != 202 {
			t.Errorf("the cancellation: %+v", got)
		}
		if f := (<-waits).failure; f == nil || f.Reason != mcp.ReasonCanceled || f.Sent != mcp.SentNo || time.Since(begun) != 0 {
			t.Errorf("what waits: %v after %v", f, time.Since(begun))
		}
		go a.do(t.Context(), 0, cancel(1)) // until it is written
		synctest.Wait()
		close(gate)
		if got := <-written; got.failure != nil || !strings.Contains(got.body, "written") {
			t.Errorf("what is being written: %+v", got)
		}
		synctest.Wait()
		if got := received(); len(got) != 2 || got[0].Params.Name != "written" || got[1].Method != "notifications/cancelled" || string(got[1].Params.RequestID) != string(got[0].ID) {
			t.Errorf("the server got %+v", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		start, received := stalling(mcp.Version20250326, gate)
		a := newAgent(t, newRig(t, options{start: start}).up)
		a.open(mcp.Version20250326)
		first, array := make(chan said, 1), make(chan said, 1)
		go func() { first <- a.call(toolCall(1, "first", "")) }()
		synctest.Wait()
		go func() { array <- a.call(`[` + toolCall(2, "waits", "") + `,` + toolCall(3, "goes on", "") + `]`) }()
		synctest.Wait()
		a.read(a.do(t.Context(), 0, cancel(2)))
		close(gate)
		<-first
		if got := <-array; got.failure != nil || len(got.events) != 1 || !strings.Contains(string(got.events[0].Data), "goes on") {
			t.Errorf("the array: %+v", got)
		}
		synctest.Wait()
		if got := received(); len(got) != 2 || got[1].Params.Name != "goes on" {
			t.Errorf("the server got %+v", got)
		}
	})
}
