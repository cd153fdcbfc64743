package streamable_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// badServer answers initialize as a server of 2025-11-25 does, and to a tools/call does what its name says.
func badServer(banner string, tools map[string]func(id json.RawMessage)) func() {
	return func() {
		fmt.Print(banner)
		lines := bufio.NewScanner(os.Stdin)
		for lines.Buffer(nil, 16<<20); lines.Scan(); {
			var r struct {
				ID     json.RawMessage
				Method string
				Params struct{ Name string }
			}
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				fmt.Fprintln(os.Stderr, "no message:", lines.Text())
				os.Exit(9)
			}
			switch {
			case r.Method == "initialize":
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"bad","version":"1"}}}`+"\n", r.ID)
			case r.Method == "server/discover" && tools["discover"] != nil:
				tools["discover"](r.ID)
			case r.ID == nil:
			case tools[r.Params.Name] != nil:
				tools[r.Params.Name](r.ID)
			default:
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"ok":true}}`+"\n", r.ID)
			}
		}
	}
}

func sleepForever() { time.Sleep(time.Hour) }

func init() {
	children["bad"] = badServer("Welcome!\n\nlistening on {stdio}\n", map[string]func(json.RawMessage){
		"half": func(id json.RawMessage) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"half`, id)
			sleepForever()
		},
		"dies": func(id json.RawMessage) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"half`, id)
			fmt.Fprintln(os.Stderr, "out of luck")
			os.Exit(3)
		},
		"huge": func(json.RawMessage) {
			for range 100 {
				_, _ = os.Stdout.Write(bytes.Repeat([]byte("x"), 1<<20)) // it is killed in the middle
			}
			sleepForever()
		},
		"split": func(id json.RawMessage) {
			line := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"text":"é€😀"}}`+"\n", id)
			for i := range len(line) {
				fmt.Print(line[i : i+1])
				time.Sleep(100 * time.Microsecond)
			}
		},
		"odd": func(id json.RawMessage) {
			fmt.Printf(`{"jsonrpc":"2.0","id":"%s","result":{"a":"\ud83d","b":"`+"\xe9"+`"},"error":null}`+"\r\n", id)
		},
		"closes": func(json.RawMessage) {
			_ = os.Stdout.Close() // and lives on
			sleepForever()
		},
		"deaf": func(json.RawMessage) { sleepForever() },
		"hangs": func(json.RawMessage) {
			fmt.Fprintln(os.Stderr, "hangs")
			sleepForever()
		},
		"discover": func(json.RawMessage) { os.Exit(4) },
	})
	children["fails"] = func() {
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprintln(os.Stderr, "no token")
		os.Exit(1)
	}
	children["ignores"] = sleepForever
}

// TestFaults holds what an agent gets from children that misbehave, and that the next call works.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		tool   string
		code   int
		reason mcp.Reason
		says   string // in the message, or in the answer
		ends   bool
	}{
		{"half", 1504, mcp.ReasonCallTimeout, "did not answer", false},
		{"dies", 1502, mcp.ReasonBrokeOff, "exit status 3", true},
		{"huge", 1502, mcp.ReasonBadAnswer, "limits.event", true},
		{"split", 0, "", "é€😀", false},
		{"odd", 0, "", `"error":null`, false},
		{"closes", 1502, mcp.ReasonBrokeOff, "closed its stdout", true},
	} {
		t.Run(c.tool, func(t *testing.T) {
			t.Parallel()
			limit := time.Minute
			if c.reason == mcp.ReasonCallTimeout {
				limit = 2 * time.Second
			}
			r := newRig(t, options{child: "bad", front: func(o *streamable.Options) { o.Call = limit }})
			a := newAgent(t, r.up)
			a.open(mcp.Version20251125)
			got := a.call(toolCall(1, c.tool, "x"))
			switch {
			case c.code == 0 && (got.failure != nil || !strings.Contains(got.body, c.says)):
				t.Errorf("%+v", got)
			case c.code != 0 && (got.failure == nil || got.failure.Code != c.code || got.failure.Reason != c.reason || !strings.Contains(got.failure.Message, c.says)):
				t.Errorf("%+v", got)
			}
			if c.tool == "half" {
				return // it never reads again
			}
			if got := a.call(list); got.failure != nil || got.status != 200 {
				t.Errorf("a list afterwards: %+v", got)
			}
			if got := a.call(toolCall(2, "none", "x")); c.ends != (got.failure != nil && got.failure.Code == 1410) {
				t.Errorf("a call afterwards: %+v", got)
			}
		})
	}
}

// TestOddAnswer holds that what is no Unicode passes byte for byte, under the agent's id as the server wrote it.
func TestOddAnswer(t *testing.T) {
	r := newRig(t, options{child: "bad"})
	a := newAgent(t, r.up)
	a.open(mcp.Version20251125)
	want := `{"jsonrpc":"2.0","id":"1","result":{"a":"\ud83d","b":"` + "\xe9" + `"},"error":null}`
	if got := a.call(toolCall(1, "odd", "x")); strings.TrimSpace(got.body) != want {
		t.Errorf("got %q", got.body)
	}
	if n := r.pool.Status().Junk; n != 2 {
		t.Errorf("%d lines of the banner were counted", n)
	}
}

// TestHugeLine holds that memory is bounded whatever a child writes.
func TestHugeLine(t *testing.T) {
	r := newRig(t, options{child: "bad", pool: func(o *stdio.PoolOptions) { o.LineLimit = 1 << 20 }})
	a := newAgent(t, r.up)
	a.open(mcp.Version20251125)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := a.call(toolCall(1, "huge", "x")); got.failure == nil || got.failure.Reason != mcp.ReasonBadAnswer {
		t.Errorf("%+v", got)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d bytes were allocated for 100 MB without a newline, limit 1 MiB", grown)
	}
}

// TestServerThatDoesNotRead holds that a child which does not read is ended, and that everybody who waits gets an error.
func TestServerThatDoesNotRead(t *testing.T) {
	r := newRig(t, options{child: "bad", pool: func(o *stdio.PoolOptions) { o.FirstByte = time.Second }})
	a := newAgent(t, r.up)
	a.open(mcp.Version20251125)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			body := toolCall(i, "deaf", strings.Repeat("x", 1<<20))
			if got := a.call(body); got.failure == nil || got.failure.Code != 1504 {
				t.Errorf("%+v", got)
			}
		})
	}
	all.Wait()
}

// TestDeleteEndsTheProcess holds that the process of a session ends with it, and a call in it with an error; other processes go on.
func TestDeleteEndsTheProcess(t *testing.T) {
	var mu sync.Mutex
	var started []*mcptest.Child
	r := newRig(t, options{start: func(context.Context) (stdio.Process, func(), error) {
		c, err := mcptest.StartChild("bad")
		if err != nil {
			return nil, nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		started = append(started, c)
		return c, nil, nil
	}})
	idle, busy, other := newAgent(t, r.up), newAgent(t, r.up), newAgent(t, r.up)
	for _, a := range []*agent{idle, busy, other} {
		a.open(mcp.Version20251125)
	}
	mu.Lock()
	children := started
	mu.Unlock()
	failed := make(chan said)
	go func() { failed <- busy.call(toolCall(1, "hangs", "x")) }()
	eventually(t, "the call in the process", func() bool { return slices.Contains(children[1].Stderr(), "hangs") })
	for i, a := range []*agent{idle, busy} {
		if got := a.read(a.do(t.Context(), mcp.LaneEnd, "")); got.status != 204 {
			t.Errorf("%d: DELETE: %+v", i, got)
		}
		select {
		case <-children[i].Done():
		case <-time.After(mcptest.WaitTimeout):
			t.Errorf("%d: the process goes on", i)
		}
	}
	if f := (<-failed).failure; f == nil || f.Reason != mcp.ReasonSessionLost {
		t.Errorf("the call: %v", f)
	}
	if got := other.call(list); got.failure != nil || got.status != 200 {
		t.Errorf("another session: %+v", got)
	}
	eventually(t, "one process", func() bool { return r.pool.Status().Processes == 1 })
}

// TestStartFails holds that the error of a start that failed says why, and comes at once.
func TestStartFails(t *testing.T) {
	r := newRig(t, options{child: "fails"})
	a := newAgent(t, r.up)
	body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`
	got := a.call(body)
	if f := got.failure; f == nil || f.Code != 1502 || f.Reason != mcp.ReasonStartFailed || f.Sent != mcp.SentNo ||
		!strings.Contains(f.Message, "exit status 1") || !strings.Contains(f.Message, "no token") {
		t.Errorf("%+v", got)
	}
	missing := newRig(t, options{start: func(context.Context) (stdio.Process, func(), error) { return nil, nil, os.ErrNotExist }})
	begun := time.Now()
	got = newAgent(t, missing.up).call(body)
	if f := got.failure; f == nil || f.Reason != mcp.ReasonStartFailed || !strings.Contains(f.Message, "not exist") || time.Since(begun) > time.Second {
		t.Errorf("missing: %+v after %v", got, time.Since(begun))
	}
}

const modernList = `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`

// TestEndsAtDiscover holds that a server which ends at server/discover is remembered as legacy, and is not started again for
// modern requests.
func TestEndsAtDiscover(t *testing.T) {
	var mu sync.Mutex
	starts := 0
	r := newRig(t, options{start: func(ctx context.Context) (stdio.Process, func(), error) {
		mu.Lock()
		starts++
		mu.Unlock()
		return starting("bad")(ctx)
	}})
	a := newAgent(t, r.up)
	for range 3 {
		if got := a.call(modernList); got.status != 404 || !strings.Contains(got.body, `"id":7,"error":{"code":-32601`) {
			t.Errorf("%+v", got)
		}
	}
	mu.Lock()
	if starts != 1 {
		t.Errorf("%d starts", starts)
	}
	mu.Unlock()
	a.open(mcp.Version20251125)
	if got := a.call(list); got.status != 200 {
		t.Errorf("legacy: %+v", got)
	}
}

// TestSilenceDecidesNothing holds that a server which does not answer server/discover is asked again.
func TestSilenceDecidesNothing(t *testing.T) {
	r := newRig(t, options{child: "ignores", pool: func(o *stdio.PoolOptions) { o.Handshake = 50 * time.Millisecond }})
	a := newAgent(t, r.up)
	for range 2 {
		if got := a.call(modernList); got.failure == nil || got.failure.Reason != mcp.ReasonStillStarting {
			t.Errorf("%+v", got)
		}
	}
}
