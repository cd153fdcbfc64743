package window_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestWindowFillsArrays: a thousand calls at once leave in arrays of the most that fits, equal ids and all.
func TestWindowFillsArrays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = server.echo
		r := newWindow(server, 100, time.Second)
		var calls []*mcp.Call
		for i := range 1000 {
			calls = append(calls, plainCall([]string{"1", `"1"`, "-2.50e1"}[i%3], "getBlock", i))
		}
		start := time.Now()
		for i, g := range r.together(t.Context(), calls) {
			wantOwn(t, calls[i], g)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("full arrays waited %v", took)
		}
		if len(server.sizes) != 10 || slices.Min(server.sizes) != 100 || server.singles != 0 {
			t.Errorf("arrays of %v, %d single calls", server.sizes, server.singles)
		}
		for params, n := range server.ran {
			if n != 1 {
				t.Errorf("%s ran %d times", params, n)
			}
		}
		r.Wait()
	})
}

// TestWindowCloses: what is not full leaves when the window of its first call has passed; one call goes as it is.
func TestWindowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = server.echo
		r := newWindow(server, 100, 10*time.Millisecond)
		calls := []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)}
		first := make(chan ended, 1)
		start := time.Now()
		go func() {
			res, err := r.Call(t.Context(), calls[0])
			first <- ended{res, err}
		}()
		<-time.After(9 * time.Millisecond)
		res, err := r.Call(t.Context(), calls[1])
		wantOwn(t, calls[1], ended{res, err})
		wantOwn(t, calls[0], <-first)
		if took := time.Since(start); took != 10*time.Millisecond {
			t.Errorf("took %v, want 10 ms", took)
		}
		single := plainCall("3", "getBlock", 3)
		res, err = r.Call(t.Context(), single)
		wantOwn(t, single, ended{res, err})
		if !slices.Equal(server.sizes, []int{2}) || server.singles != 1 {
			t.Errorf("arrays of %v, %d single calls; want [2] and 1", server.sizes, server.singles)
		}
		if h := server.headers[0]; h.Get("Authorization") != "a" || h.Get("Traceparent") != "" {
			t.Errorf("header of the array: %v", h)
		}
		r.Wait()
	})
}

// TestWindowKeepsApart: credentials, sessions and versions never meet in an array, nor what may be sent again with what
// may not.
func TestWindowKeepsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = server.echo
		r := newWindow(server, 1000, time.Millisecond)
		var calls []*mcp.Call
		for i := range 96 {
			method := []string{"getBlock", "sendBlock"}[i%2]
			c := plainCall("1", method, i)
			c.Header = header.Of(http.Header{"Authorization": {strconv.Itoa(i / 2 % 2)}, "Mcp-Session-Id": {strconv.Itoa(i / 4 % 2)}})
			c.Version = []string{"", mcp.Version20250326}[i/8%2]
			calls = append(calls, c)
		}
		for i, g := range r.together(t.Context(), calls) {
			wantOwn(t, calls[i], g)
		}
		if len(server.sizes) != 16 || slices.Min(server.sizes) != 6 || slices.Max(server.sizes) != 6 {
			t.Errorf("arrays of %v, want 16 of 6", server.sizes)
		}
		again := 0
		for _, a := range server.again {
			if a {
				again++
			}
		}
		if again != 8 {
			t.Errorf("%d arrays may be sent again, want 8", again)
		}
		r.Wait()
	})
}

// TestWindowBatchable: what may go in an array, and what goes by itself.
func TestWindowBatchable(t *testing.T) {
	mcpCall := func(version, method, params string) *mcp.Call {
		c := plainCall("1", "x", 0)
		c.Era, c.Version = mcp.EraOf(version), version
		c.Body = []byte(`{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`)
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			t.Fatal(err)
		}
		return c
	}
	notification := plainCall("1", "getBlock", 0)
	notification.Lane = mcp.LaneNotification
	for name, x := range map[string]struct {
		call    *mcp.Call
		batched bool
	}{
		"plain":                       {plainCall("1", "tools/anything", 0), true},
		"plain, an id of null":        {plainCall("null", "getBlock", 0), false},
		"a notification":              {notification, false},
		"a list of 2025-03-26":        {mcpCall(mcp.Version20250326, "tools/list", "{}"), true},
		"a list of no version":        {mcpCall("", "tools/list", "{}"), true},
		"a tool of 2025-03-26":        {mcpCall(mcp.Version20250326, "tools/call", `{"name":"a"}`), true},
		"a tool with a progressToken": {mcpCall(mcp.Version20250326, "tools/call", `{"name":"a","_meta":{"progressToken":1}}`), false},
		"ping":                        {mcpCall(mcp.Version20250326, "ping", "{}"), false},
		"initialize":                  {mcpCall(mcp.Version20250326, "initialize", "{}"), false},
		"a list of 2025-06-18":        {mcpCall(mcp.Version20250618, "tools/list", "{}"), false},
		"a list of 2026-07-28":        {mcpCall(mcp.Version20260728, "tools/list", "{}"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &arrays{single: func(context.Context, *mcp.Call) (*mcp.Result, error) { return &mcp.Result{Status: 200}, nil }}
				server.reply = server.echo
				r := newWindow(server, 2, time.Minute)
				other := *x.call
				r.together(t.Context(), []*mcp.Call{x.call, &other})
				if batched := len(server.sizes) == 1; batched != x.batched {
					t.Errorf("arrays of %v, %d single calls", server.sizes, server.singles)
				}
				r.Wait()
			})
		})
	}
}

// TestWindowLeaving: who leaves before the array does was not sent; who leaves later touches nobody; the last one out ends
// the call.
func TestWindowLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		var cause error
		server.reply = func(ctx context.Context, c *mcp.Call, calls []element) (*mcp.Result, error) {
			out := server.runAll(calls)
			if len(out) == 3 {
				if err := after(ctx, time.Hour); err != nil {
					cause = context.Cause(ctx)
					return nil, err
				}
			}
			return arrayBody("[" + join(out) + "]"), nil
		}
		r := newWindow(server, 4, time.Second)
		early, leave := context.WithCancel(t.Context())
		outs := make(chan ended, 4)
		go func() {
			res, err := r.Call(early, plainCall("1", "sendBlock", 0))
			outs <- ended{res, err}
		}()
		synctest.Wait()
		leave()
		if f := failureIn(t, <-outs); f.Sent != mcp.SentNo || f.Reason != mcp.ReasonCanceled {
			t.Errorf("left before: %+v", f)
		}
		// Three more leave with the window; each has a deadline of its own.
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+2)*time.Second)
			defer cancel()
			go func() {
				res, err := r.Call(ctx, plainCall("1", "sendBlock", i+1))
				outs <- ended{res, err}
			}()
		}
		start := time.Now()
		for i := range 3 {
			f := failureIn(t, <-outs)
			if f.Sent != mcp.SentUnknown || time.Since(start).Round(time.Second) != time.Duration(i+2)*time.Second {
				t.Errorf("%d left after %v: %+v", i, time.Since(start), f)
			}
		}
		r.Wait()
		if cause == nil {
			t.Error("the array went on without a caller")
		}
		if server.ran["[0]"] != 0 || server.ran["[1]"] != 1 {
			t.Errorf("ran %v", server.ran)
		}
	})
}

// TestWindowDrain: nobody waits for others any more.
func TestWindowDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = server.echo
		r := newWindow(server, 100, time.Minute)
		calls := []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)}
		done := make(chan []ended, 1)
		start := time.Now()
		go func() { done <- r.together(t.Context(), calls) }()
		synctest.Wait()
		r.Drain()
		for i, g := range <-done {
			wantOwn(t, calls[i], g)
		}
		late := plainCall("3", "getBlock", 3)
		res, err := r.Call(t.Context(), late)
		wantOwn(t, late, ended{res, err})
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		r.Wait()
	})
}

// TestWindowBaseEnds: the daemon's deadline ends what is under way, with its own words.
func TestWindowBaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = func(ctx context.Context, c *mcp.Call, calls []element) (*mcp.Result, error) {
			return nil, after(ctx, time.Hour)
		}
		r := newWindow(server, 2, time.Minute)
		done := make(chan []ended, 1)
		go func() {
			done <- r.together(t.Context(), []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)})
		}()
		synctest.Wait()
		r.stop(mcp.Draining())
		for _, g := range <-done {
			if f := failureIn(t, g); f.Reason != mcp.ReasonDraining || f.Sent != mcp.SentYes {
				t.Errorf("%+v", f)
			}
		}
		r.Wait()
	})
}

// TestWindowPanic: nobody waits for ever.
func TestWindowPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{reply: func(context.Context, *mcp.Call, []element) (*mcp.Result, error) { panic("here") }}
		r := newWindow(server, 2, time.Minute)
		for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)}) {
			if f := failureIn(t, g); f.Sent != mcp.SentUnknown || f.Code != mcp.CodeBadGateway {
				t.Errorf("%+v", f)
			}
		}
		r.Wait()
		if r.log.Len() == 0 {
			t.Error("a panic is not in the log")
		}
	})
}

func join(parts []string) string {
	out := ""
	for i, p := range parts {
		if i > 0 {
			out += ","
		}
		out += p
	}
	return out
}

// TestWindowOutdated: what an array's answer is, its parts are.
func TestWindowOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = func(ctx context.Context, c *mcp.Call, calls []element) (*mcp.Result, error) {
			res, err := server.echo(ctx, c, calls)
			res.Outdated = true
			return res, err
		}
		r := newWindow(server, 2, time.Second)
		for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)}) {
			if g.err != nil || !g.res.Outdated {
				t.Errorf("%+v, %v", g.res, g.err)
			}
		}
		r.Wait()
	})
}
