package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const (
	modernHeader = "Mcp-Protocol-Version"
	modernVer    = mcp.Version20260728
)

// TestArrayThousand sends an array of 1,000 with everything in it, and looks at each answer and at its place.
func TestArrayThousand(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { thousand(t, plain) })
		})
	}
}

func thousand(t *testing.T, plain bool) {
	var closed atomic.Int64
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		asScanned(t, c)
		what := textParam(c, "what")
		if err := after(ctx, time.Duration(rand.IntN(50))*time.Millisecond); err != nil {
			return nil, err
		}
		switch what {
		case "notification":
			return accept202()
		case "error":
			return whole(200, errorBody(c, -32000, "no")), nil
		case "nameless error":
			return whole(200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no"}}`), nil
		case "failure":
			return nil, &mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "no way"}
		case "http":
			return whole(401, "go away"), nil
		case "http error":
			return whole(404, errorBody(c, -32601, "what?")), nil
		case "panic":
			panic("planted")
		case "stream":
			text := ": hello\n\nid: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\ndata:" +
				strings.TrimSpace(okBody(c, `"streamed"`)) + "\n\n"
			return stream(ctx, text, nil, &closed), nil
		case "raw":
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(okBody(c, `"raw"`), 7, io.EOF, &closed)}, nil
		case "rubbish":
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(`]"`, 7, io.EOF, &closed)}, nil
		}
		return answerOK(c, fmt.Sprintf("%q", what))
	}, func(o *rpc.Options) { o.Plain = plain })
	kinds := []string{
		"answer", "notification", "error", "failure", "http", "http error", "panic", "stream", "raw", "rubbish",
		"nameless error", "7", `{"jsonrpc":"1.0","id":"bad"}`, `[]`,
	}
	ids := []string{"1", "1", `"1"`, `"\u0031"`, "1.0", "9007199254740993", "null"}
	var elements, want []string
	streams := 0
	for i := range 1000 {
		what, id := kinds[rand.IntN(len(kinds))], ids[rand.IntN(len(ids))]
		element := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"m%d","params":{"what":%q}}`, id, i, what)
		answer := ""
		switch what {
		case "notification":
			element = strings.Replace(element, `"id":`+id+",", "", 1)
		case "answer":
			answer = id + `: "answer"`
		case "stream", "raw":
			answer = id + `: "` + map[string]string{"stream": "streamed", "raw": "raw"}[what] + `"`
		case "error", "nameless error":
			answer = id + ": error -32000 , sent "
		case "http error":
			answer = id + ": error -32601 , sent "
		case "failure":
			answer = id + ": error 1502 connect, sent no"
		case "http", "rubbish":
			answer = id + ": error 1502 bad_answer, sent yes"
		case "panic":
			answer = id + ": error 1502 broke_off, sent unknown"
		default:
			element = what
			answer = "null: error -32600 invalid_message, sent no"
			if strings.Contains(what, "bad") {
				answer = `"bad": error -32600 invalid_message, sent no`
			}
		}
		if what == "stream" {
			streams++
		}
		if answer != "" {
			want = append(want, answer)
		}
		elements = append(elements, element)
	}
	got := r.answers(t, t.Context(), " "+joinElements(elements)+"\n", modernHeader, modernVer)
	wantReplies(t, got, want...)
	if n := r.maxInside.Load(); n != 32 {
		t.Errorf("%d elements were under way at most, want 32", n)
	}
	if n := r.metric(t, "fluentd_perf_rpc_dropped_total", ""); n != streams {
		t.Errorf("%d messages are counted as dropped, want %d", n, streams)
	}
	total := 0
	for _, outcome := range []string{"ok", "tool_error", "rpc_error", "failed", "refused", "notification"} {
		total += r.metric(t, "fluentd_perf_rpc_calls_total", outcome)
	}
	if total != 1000 {
		t.Errorf("%d elements are counted, want 1000", total)
	}
	r.close(t)
}

// TestArrayToolErrors: a result that says isError is counted as such, of a tool's call and nothing else, as requests are.
func TestArrayToolErrors(t *testing.T) {
	for _, c := range []struct {
		method, result, outcome string
		plain                   bool
	}{
		{"tools/call", `{"content":[],"isError":true}`, "tool_error", false},
		{"tools/call", `{"content":[],"isError":false}`, "ok", false},
		{"tools/call", `{"content":[{"isError":true}]}`, "ok", false},
		{"tools/call", `{"isError":"true"}`, "ok", false},
		{"prompts/get", `{"isError":true}`, "ok", false},
		{"tools/call", `{"isError":true}`, "ok", true}, // no MCP
	} {
		r := newArrayRig(func(_ context.Context, call *mcp.Call) (*mcp.Result, error) {
			return answerOK(call, c.result)
		}, func(o *rpc.Options) { o.Plain = c.plain })
		r.answers(t, t.Context(), `[{"jsonrpc":"2.0","id":1,"method":"`+c.method+`","params":{"name":"x"}}]`, modernHeader, modernVer)
		for _, outcome := range []string{"ok", "tool_error", "rpc_error", "failed"} {
			want := 0
			if outcome == c.outcome {
				want = 1
			}
			if got := r.metric(t, "fluentd_perf_rpc_calls_total", outcome); got != want {
				t.Errorf("%s %s: %d counted as %s, want %d", c.method, c.result, got, outcome, want)
			}
		}
		r.close(t)
	}
}

// TestArrayOrder holds that elements begin in the order asked, as many at once as may be.
func TestArrayOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if err := after(ctx, time.Second); err != nil {
				return nil, err
			}
			return answerOK(c, "1")
		}, func(o *rpc.Options) { o.Plain, o.Concurrency, o.MaxBatch = true, 2, 3 })
		var elements []string
		for i := range 60 {
			elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"m"}`, i))
		}
		start := time.Now()
		got := r.answers(t, t.Context(), joinElements(elements))
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("60 elements of a second, six at once, took %v", took)
		}
		for i, c := range r.sent("") {
			var id int
			if _, err := fmt.Sscan(string(c.ID()), &id); err != nil || id/6 != i/6 {
				t.Errorf("element %d began as number %d", id, i)
			}
		}
		for i, p := range got {
			if string(p.ID) != fmt.Sprint(i) {
				t.Errorf("answer %d is that of %s", i, p.ID)
			}
		}
		r.close(t)
	})
}

// TestArrayShapes holds what is answered to bodies of all shapes.
func TestArrayShapes(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":1,"method":"m"}`
	const notification = `{"jsonrpc":"2.0","method":"n"}`
	for _, x := range []struct {
		body   string
		status int
		want   string // a part of the body
	}{
		{request, 200, `{"jsonrpc":"2.0", "id": 1, "result":"m"}`},
		{" \n" + request, 200, `{"jsonrpc":"2.0", "id": 1, "result":"m"}`},
		{"[" + request + "]", 200, `[{"jsonrpc":"2.0", "id": 1, "result":"m"}]`},
		{notification, 202, ""},
		{"[" + notification + "," + notification + "]", 202, ""},
		{"[" + request + "," + notification + "]", 200, `[{"jsonrpc":"2.0", "id": 1, "result":"m"}]`},
		{"", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"{", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"[" + request, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"[" + request + ",]", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"[" + request + "]x", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"[]", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600`},
		{"7", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600`},
		{`"x"`, 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600`},
		{`{"jsonrpc":"2.0","id":"x"}`, 400, `{"jsonrpc":"2.0","id":"x","error":{"code":-32600`},
		{`[{"jsonrpc":"2.0","id":"x"}]`, 200, `[{"jsonrpc":"2.0","id":"x","error":{"code":-32600`},
		{`[{"jsonrpc":"2.0","id":"x","result":1}]`, 200, `[{"jsonrpc":"2.0","id":"x","error":{"code":-32600`},
		{`[1]`, 200, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32600`},
		{"\ufeff" + request, 400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32700`},
		{"\ufeff[" + request + "]", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{"[\ufeff" + request + "]", 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700`}, // which is not JSON
		{`[{"jsonrpc":"2.0","id":1,"method":"\ud83d"},` + request + `]`, 200, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32700`},
		{`[{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":"` + "\xff" + `"}}]`, 200, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32700`},
		{`[{"jsonrpc":"2.0","id":1,"method":"m","params":null}]`, 200, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32700`},
		{`[{"jsonrpc":"2.0","id":"\udc00","method":"m"}]`, 200, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{`[{"jsonrpc":"2.0","method":"m","params":null}]`, 200, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32700`},
		{`{"jsonrpc":"2.0","id":"x","method":"m","params":null}`, 400, `{"jsonrpc":"2.0","id":"x","error":{"code":-32700`},
		{joinElements(repeat(request, 1001)), 400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600`},
		{joinElements(repeat(request, 1000)), 200, `[{"jsonrpc":"2.0", "id": 1, "result":"m"},{`},
	} {
		r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneNotification {
				return accept202()
			}
			return answerOK(c, fmt.Sprintf("%q", methodOf(c)))
		}, func(o *rpc.Options) { o.Plain = true })
		status, body, err := r.ask(t.Context(), arrayCall(x.body))
		if err != nil || status != x.status || !strings.HasPrefix(body, x.want) || x.want == "" && body != "" {
			t.Errorf("%.60q got %d %.200s, %v, want %d %s...", x.body, status, body, err, x.status, x.want)
		}
		if strings.Contains(body, `"error"`) && !strings.Contains(body, `"upstream":"test"`) {
			t.Errorf("%.60q: an error without data: %s", x.body, body)
		}
		r.close(t)
	}
}

// TestArraySingle holds how one message instead of an array is noted: what is refused, whatever it is, by 400 and for the log,
// and a panic as any failure of a request.
func TestArraySingle(t *testing.T) {
	const request = `{"jsonrpc":"2.0","id":1,"method":"m"}`
	for _, x := range []struct {
		body, outcome string
		status        int
		reason        mcp.Reason
	}{
		{"{", "refused", 400, mcp.ReasonParse},
		{"[]", "refused", 400, mcp.ReasonInvalidMessage},
		{joinElements(repeat(request, 1001)), "refused", 400, mcp.ReasonInvalidMessage},
		{`{"jsonrpc":"2.0","id":1}`, "refused", 400, mcp.ReasonInvalidMessage},
		{request, "failed", 200, mcp.ReasonBrokeOff},
	} {
		r := newArrayRig(func(context.Context, *mcp.Call) (*mcp.Result, error) { panic("planted") }, func(o *rpc.Options) { o.Plain = true })
		res, err := r.Call(t.Context(), arrayCall(x.body))
		if err != nil || res.Status != x.status || res.Failed == nil || res.Failed.Calls != 1 || res.Failed.First.Reason != x.reason {
			t.Errorf("%.40s: %+v, %v; want %d %s", x.body, res, err, x.status, x.reason)
		}
		if n := r.metric(t, "fluentd_perf_rpc_calls_total", x.outcome); n != 1 {
			t.Errorf("%.40s: %d are counted as %s, want 1", x.body, n, x.outcome)
		}
		r.close(t)
	}
}

func repeat(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

// TestArrayRefusedMethods holds what cannot be in an array, and that the others in it go on.
func TestArrayRefusedMethods(t *testing.T) {
	refused := []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize"}`,
		`{"jsonrpc":"2.0","id":2,"method":"subscriptions/listen"}`,
		`{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"a:b"}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/list","params":{"_meta":{"progressToken":7}}}`,
		`{"jsonrpc":"2.0","method":"initialize"}`,
	}
	answer := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane == mcp.LaneNotification {
			return accept202()
		}
		return answerOK(c, "1")
	}
	body := joinElements(append(refused, `{"jsonrpc":"2.0","id":5,"method":"ping"}`))
	r := newArrayRig(answer, nil)
	wantReplies(t, r.answers(t, t.Context(), body, modernHeader, modernVer),
		"1: error -32600 invalid_message, sent no", "2: error -32600 invalid_message, sent no",
		"3: error -32600 invalid_message, sent no", "4: error -32600 invalid_message, sent no", "5: 1")
	if n := len(r.sent("")); n != 1 {
		t.Errorf("%d calls went out, want 1", n)
	}
	status, text, err := r.ask(t.Context(), arrayCall(refused[0], modernHeader, modernVer))
	if status != 400 || !strings.Contains(text, `"id":1`) || err != nil {
		t.Errorf("initialize by itself got %d %s, %v", status, text, err)
	}
	r.close(t)
	p := newArrayRig(answer, func(o *rpc.Options) { o.Plain = true })
	wantReplies(t, p.answers(t, t.Context(), body), "1: 1", "2: 1", "3: 1", "4: 1", "5: 1")
	p.close(t)
}

// TestArrayLeaves ends the caller's context: all calls under way end, and the others never begin.
func TestArrayLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			err := after(ctx, time.Hour)
			ended.Add(1)
			return nil, err
		}, func(o *rpc.Options) { o.Plain = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := r.ask(ctx, arrayCall(joinElements(repeat(`{"jsonrpc":"2.0","id":1,"method":"m"}`, 100))))
		wantFailure(t, err, 0, mcp.ReasonCanceled)
		if n, ends := len(r.sent("")), ended.Load(); n != 32 || ends != 32 {
			t.Errorf("%d calls began and %d ended, want 32", n, ends)
		}
		r.close(t)
	})
}

// TestArrayDeadlines ends an array by rpc.timeout and by the end of a drain: who was answered is, the others get the reason
// with Sent true to the facts.
func TestArrayDeadlines(t *testing.T) {
	body := joinElements([]string{
		`{"jsonrpc":"2.0","id":1,"method":"quick"}`, `{"jsonrpc":"2.0","id":2,"method":"sent"}`,
		`{"jsonrpc":"2.0","id":3,"method":"unknown"}`, `{"jsonrpc":"2.0","id":4,"method":"late"}`,
	})
	server := func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if methodOf(c) == "quick" {
			return answerOK(c, "1")
		}
		<-ctx.Done()
		sent := mcp.SentUnknown
		if methodOf(c) == "sent" {
			sent = mcp.SentYes
		}
		var cause *mcp.Failure
		if methodOf(c) == "sent" && errors.As(context.Cause(ctx), &cause) { // as internal/upstream/http does
			own := *cause
			own.Sent = sent
			return nil, &own
		}
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: sent, Cause: ctx.Err()}
	}
	limited := func(o *rpc.Options) { o.Plain, o.Concurrency, o.Timeout = true, 2, time.Minute }
	synctest.Test(t, func(t *testing.T) {
		r := newArrayRig(server, limited)
		wantReplies(t, r.answers(t, t.Context(), body), "1: 1", "2: error 1504 rpc_timeout, sent yes",
			"3: error 1504 rpc_timeout, sent unknown", "4: error 1504 rpc_timeout, sent no")
		r.close(t)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newArrayRig(server, limited)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(mcp.Draining()) })
		wantReplies(t, r.answers(t, ctx, body), "1: 1", "2: error 1503 draining, sent yes",
			"3: error 1503 draining, sent unknown", "4: error 1503 draining, sent no")
		r.close(t)
	})
}

// TestArrayRoom bounds the answers together: what does not fit is 1413, and nothing goes out after that.
func TestArrayRoom(t *testing.T) {
	var closed atomic.Int64
	long := strings.Repeat("x", 600)
	for _, how := range []string{"body", "stream", "raw"} {
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			text := strings.TrimSpace(okBody(c, fmt.Sprintf("%q", long)))
			switch how {
			case "stream":
				return stream(ctx, "data:"+text+"\n\n", nil, &closed), nil
			case "raw":
				return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(text+strings.Repeat(" ", 1<<10), 100, io.EOF, &closed)}, nil
			}
			return whole(200, text), nil
		}, func(o *rpc.Options) { o.Plain, o.Concurrency, o.Answers = true, 1, 2000 })
		var elements []string
		for i := range 5 {
			elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"m"}`, i))
		}
		ok := fmt.Sprintf(": %q", long)
		want := []string{"0" + ok, "1" + ok, "2" + ok, "3: error 1413 rpc_answers, sent yes", "4: error 1413 rpc_answers, sent no"}
		if how == "raw" { // what stands behind the answer counts while it is read
			want = []string{"0" + ok, "1: error 1413 rpc_answers, sent yes", "2: error 1413 rpc_answers, sent no",
				"3: error 1413 rpc_answers, sent no", "4: error 1413 rpc_answers, sent no"}
		}
		wantReplies(t, r.answers(t, t.Context(), joinElements(elements)), want...)
		r.close(t)
	}
}

// TestArrayStreams holds what ends of streams mean to an element.
func TestArrayStreams(t *testing.T) {
	broken := &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "cut"}
	var closed atomic.Int64
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		note := "data: {\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"sampling/createMessage\"}\n\n"
		switch methodOf(c) {
		case "broken":
			return stream(ctx, note, broken, &closed), nil
		case "body too":
			res := stream(ctx, note, broken, &closed)
			text := whole(200, okBody(c, "2"))
			res.Body, res.Message, res.Checked = text.Body, text.Message, true
			return res, nil
		case "array":
			return whole(200, "["+strings.TrimSpace(okBody(c, "3"))+`,{"jsonrpc":"2.0","method":"n"}]`), nil
		case "encoded":
			res := whole(200, "", "Content-Encoding", "gzip")
			res.Raw = rawBody("\x1f\x8b", 1, io.EOF, &closed)
			return res, nil
		case "cut":
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(`{"json`, 3, broken, &closed)}, nil
		}
		res := stream(ctx, "", nil, &closed)
		res.Events = &emptyStream{closed: &closed}
		return res, nil
	}, func(o *rpc.Options) { o.Plain = true })
	var elements []string
	for i, m := range []string{"broken", "ended", "body too", "array", "encoded", "cut"} {
		elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`, i, m))
	}
	wantReplies(t, r.answers(t, t.Context(), joinElements(elements)),
		"0: error 1502 broke_off, sent yes", "1: error 1502 broke_off, sent yes", "2: 2", "3: 3",
		"4: error 1502 bad_answer, sent yes", "5: error 1502 broke_off, sent yes")
	if n := r.metric(t, "fluentd_perf_rpc_dropped_total", ""); n != 2 {
		t.Errorf("%d messages are counted as dropped, want 2", n)
	}
	if closed.Load() != 5 {
		t.Errorf("%d streams and bodies were closed, want 5", closed.Load())
	}
	r.close(t)
}

// emptyStream is a stream that ends at once.
type emptyStream struct{ closed *atomic.Int64 }

func (*emptyStream) Next() (mcp.Event, error) { return mcp.Event{}, io.EOF }

func (s *emptyStream) Close() error {
	s.closed.Add(1)
	return nil
}

// TestArrayClose holds that an array under way goes on while none begins any more, and that Close waits for it.
func TestArrayClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if err := after(ctx, time.Second); err != nil {
				return nil, err
			}
			return answerOK(c, "1")
		}, func(o *rpc.Options) { o.Plain, o.Concurrency = true, 1 })
		body := joinElements(repeat(`{"jsonrpc":"2.0","id":1,"method":"m"}`, 3))
		done := make(chan []reply, 1)
		go func() { done <- r.answers(t, t.Context(), body) }()
		synctest.Wait()
		start, closed := time.Now(), make(chan struct{})
		go func() {
			r.close(t)
			close(closed)
		}()
		synctest.Wait()
		_, _, err := r.ask(t.Context(), arrayCall(body))
		wantFailure(t, err, 1503, mcp.ReasonDraining)
		<-closed
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("Close took %v, want 3s", took)
		}
		wantReplies(t, <-done, "1: 1", "1: 1", "1: 1")
	})
}
