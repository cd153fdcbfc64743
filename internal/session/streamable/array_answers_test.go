package streamable_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
)

// TestArrays holds that an array is answered as one in a session of 2025-03-26, and nowhere else.
func TestArrays(t *testing.T) {
	array := `[` + toolCall(1, "echo", "a") + `,{"jsonrpc":"2.0","method":"notifications/x"},` + list + `]`
	x := &scripted{version: mcp.Version20250326}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20250326)
		got := a.call(array)
		elements, err := mcp.Elements(nil, []byte(got.body), 10)
		if err != nil || len(elements) != 2 || !strings.Contains(got.body, `"id":1,`) || !strings.Contains(got.body, `"id":7,`) {
			t.Errorf("%+v: %v", got, err)
		}
		if got := a.call(`[{"jsonrpc":"2.0","method":"notifications/x"}]`); got.status != 202 {
			t.Errorf("of notifications: %+v", got)
		}
		if got := a.call(`[` + toolCall(1, "log", "a") + `,` + list + `]`); len(got.events) != 3 {
			t.Errorf("with a log message: %+v", got)
		}
		x.seen()
		for _, body := range []string{
			`[1]`, `[]`, `[` + list + `,[` + list + `]]`, `[[]]`,
			`[` + list + `,{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26"}}]`,
		} {
			if got := a.call(body); got.failure == nil || got.failure.Code != -32600 || got.failure.Sent != mcp.SentNo {
				t.Errorf("%s: %+v", body, got)
			}
		}
		if got := x.seen(); got != "" {
			t.Errorf("the server got %s", got)
		}
	})
	y := &scripted{}
	world(t, y, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20251125)
		if got := a.call(array); got.failure == nil || got.failure.Code != -32600 {
			t.Errorf("in 2025-11-25: %+v", got)
		}
		if got := a.call(`{"jsonrpc":`); got.failure == nil || got.failure.Code != -32700 {
			t.Errorf("no JSON: %+v", got)
		}
	})
}

// TestArrayFailures holds that a failure which comes first on the stream of an array takes nothing from its other elements, and that of
// an element which was cancelled nothing is said.
func TestArrayFailures(t *testing.T) {
	for tool, want := range map[string][]string{"slow": {"2"}, "die": {"1 broke_off", "2 broke_off"}} {
		x := &scripted{version: mcp.Version20250326}
		world(t, x, options{}, func(t *testing.T, _ *rig, a *agent) {
			a.open(mcp.Version20250326)
			cancel := time.AfterFunc(time.Second, func() {
				a.call(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
			})
			defer cancel.Stop()
			res, f := a.do(t.Context(), mcp.LaneRequest, `[`+toolCall(1, "hang", "a")+`,`+toolCall(2, tool, "b")+`]`)
			if f != nil || res.Events == nil {
				t.Fatalf("%s: %+v, %v", tool, res, f)
			}
			defer closeResult(t, res)
			var got []string
			ev, err := res.Events.Next()
			for ; err == nil; ev, err = res.Events.Next() {
				switch {
				case ev.Failure != nil:
					got = append(got, string(ev.FailedID)+" "+string(ev.Failure.Reason))
				case ev.Answer:
					got = append(got, string(ev.Message.ID.Of(ev.Data)))
				}
			}
			if err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("%s: got %q and %v, want %q", tool, got, err, want)
			}
			time.Sleep(20 * time.Second) // the tools end
		})
	}
}

// TestLargeArray holds that answers to an array which are large together come as they come, and not when the time for them is over.
func TestLargeArray(t *testing.T) {
	x := &scripted{version: mcp.Version20250326}
	world(t, x, options{}, func(t *testing.T, r *rig, a *agent) {
		a.open(mcp.Version20250326)
		begun, large := time.Now(), strings.Repeat("x", 2<<20)
		got := a.call(`[` + toolCall(1, "echo", large) + `,` + toolCall(2, "echo", large) + `,` + toolCall(3, "echo", large) + `]`)
		if took := time.Since(begun); took > time.Second || got.failure != nil || len(got.events) != 3 {
			t.Errorf("%d events after %v: %v", len(got.events), took, got.failure)
		}
	})
}
