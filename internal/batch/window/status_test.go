package window_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// under answers with a status, and in %[1]s to %[3]s with the ids of the array.
func under(code int, format string, fields ...string) func([]string) (*mcp.Result, error) {
	return func(ids []string) (*mcp.Result, error) {
		res, _ := status(code, fmt.Sprintf(format+"%[4]s", ids[0], ids[1], ids[2], ""))(nil)
		for i := 0; i < len(fields); i += 2 {
			res.Header.Set(fields[i], fields[i+1])
		}
		return res, nil
	}
}

// large answers with a status and a body that is not read yet.
func large(code, size int) func([]string) (*mcp.Result, error) {
	return func([]string) (*mcp.Result, error) {
		body := io.NopCloser(io.LimitReader(endless{}, int64(size)))
		return &mcp.Result{Status: code, Header: header.List{}, Raw: body}, nil
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

const (
	allThree = `[{"jsonrpc":"2.0","id":%[1]s,"result":"x"},{"jsonrpc":"2.0","id":%[2]s,"result":"x"},{"jsonrpc":"2.0","id":%[3]s,"result":"x"}]`
	second   = `{"jsonrpc":"2.0","id":%[2]s,"error":{"code":1,"message":"no"}}`
)

// statuses are answers with a status of 300 or more: what a call is named in has run, whatever the status.
func statuses() []said {
	singleButOne, badButOne := [3]string{"single", "error", "single"}, [3]string{"bad_answer unknown", "error", "bad_answer unknown"}
	return []said{
		{"400 with answers", true, under(400, allThree), allOwn, allOwn, false},
		{"413 with answers", true, under(413, allThree), allOwn, allOwn, false},
		{"500 with answers", true, under(500, allThree), allOwn, allOwn, false},
		{"302 with answers", true, under(302, allThree), allOwn, allOwn, false},
		{"400 with large answers", true, func(ids []string) (*mcp.Result, error) {
			res, _ := under(400, allThree)(ids)
			return &mcp.Result{Status: 400, Raw: io.NopCloser(bytes.NewReader(res.Body))}, nil
		}, allOwn, allOwn, false},
		{"400 with one answer missing", true, func(ids []string) (*mcp.Result, error) { return status(400, "["+ok(ids[0])+"]")(nil) },
			[3]string{"own", "bad_answer yes", "bad_answer yes"}, [3]string{"own", "bad_answer yes", "bad_answer yes"}, false},
		{"400 with an error for one", true, under(400, second), singleButOne, badButOne, true},
		{"500 with an error for one", true, under(500, second), singleButOne, badButOne, false},
		{"404 with an error for one", true, under(404, second), singleButOne, badButOne, false},
		{"400 with text about one", true, under(400, "%[2]s failed"), allSingle, allBad, true},
		{"500 with text about one", true, under(500, "%[2]s failed"), allSingle, allBad, false},
		{"400 with a result of nobody", true, under(400, `[{"jsonrpc":"2.0","id":7,"result":1}]`), allSingle, allBad, true},
		{"400 with errors of nobody", false, under(400, `[{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}]`), allSingle, allSingle, true},
		{"400, encoded", true, under(400, "?", "Content-Encoding", "gzip"), allSingle, allBad, true},
		{"503, encoded", true, under(503, "?", "Content-Encoding", "gzip"), every("503"), every("503"), false},
		{"401 in one's name", false, under(401, second), every("401"), every("401"), false},
		{"429 in nobody's name", false, under(429, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"no"}}`), every("429"), every("429"), false},
		{"401 with text in one's name", true, under(401, `{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":%[2]s}}`), allSingle, allBad, false},
		{"a lost session", false, under(400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid Session ID"}}`), every("400"), every("400"), false},
		{"a lost session in one's name", false, under(400, `{"jsonrpc":"2.0","id":%[3]s,"error":{"code":-32001,"message":"session unknown"}}`), every("400"), every("400"), false},
		{"404 for a lost session in one's name", false, under(404, `{"jsonrpc":"2.0","id":%[3]s,"error":{"code":-32001,"message":"gone"}}`), every("404"), every("404"), false},
		{"a session in the data alone", false, under(400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no arrays","data":"Session.java:12"}}`), allSingle, allSingle, true},
		{"500 with much text", true, large(500, 4<<20), every("500"), every("500"), false},
		{"500 with too much text", true, large(500, 4<<20+1), allSingle, allBad, false},
	}
}

// TestWindowPassesOn: what HTTP says of the array each of its callers gets, with a header of its own. The body is the same
// memory for all, and not the answer's, which is used again.
func TestWindowPassesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{reply: func(context.Context, *mcp.Call, []element) (*mcp.Result, error) {
			res, _ := status(401, "who")(nil)
			res.Release = func() { copy(res.Body, "XXX") }
			return res, nil
		}}
		r := newWindow(server, 2, time.Minute)
		out := r.together(t.Context(), []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)})
		r.Wait()
		out[0].res.Header.Set("Www-Authenticate", "changed")
		got := out[1].res
		if got.Header.Get("Www-Authenticate") != "Bearer" || string(got.Body) != "who" {
			t.Errorf("header %v, body %s", got.Header, got.Body)
		}
		if &got.Body[0] != &out[0].res.Body[0] {
			t.Error("each has a body of its own")
		}
	})
}

// TestWindowPassesOnIDs: an error about the session or the credentials has everybody's own id, whosever the server wrote.
func TestWindowPassesOnIDs(t *testing.T) {
	for code, text := range map[int]string{400: "no session", 404: "session not found", 401: "who"} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const body = `{"jsonrpc":"2.0","id":%s,"error":{"code":-32001,"message":%q}}`
				server := &arrays{reply: func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
					return status(code, fmt.Sprintf(body, calls[1].ID, text))(nil)
				}}
				r := newWindow(server, 2, time.Minute)
				calls := []*mcp.Call{plainCall("1", "sendBlock", 1), plainCall(`"b"`, "sendBlock", 2)}
				for i, g := range r.together(t.Context(), calls) {
					if want := fmt.Sprintf(body, calls[i].ID(), text); g.err != nil || g.res.Status != code || string(g.res.Body) != want {
						t.Errorf("%+v, %v; want %d %s", g.res, g.err, code, want)
					}
				}
				r.Wait()
			})
		})
	}
}

// lossWords are errors about a session: the words of the SDKs and of others, with the statuses that go with them.
var lossWords = []struct {
	status  int
	code    int
	message string
}{
	{404, -32001, "Session not found"}, {404, -32600, "Session not found"}, {404, -32000, "session abc expired"},
	{400, -32000, "Bad Request: Server not initialized"}, {400, -32000, "Bad Request: No valid session ID provided"},
	{400, -32001, "Unknown SESSION"}, {400, -32600, "Invalid session ID"}, {400, -32000, "call initialize first"},
	{400, -32000, "server is not yet initialised"}, {401, -32000, "Unauthorized: Session not found"}, {503, -32000, "no such session here"},
	{410, -32000, "gone"}, {404, -32001, "gone"},
}

// notLossWords are errors that are about a call: of its arguments, its method or its resource, or in other words.
var notLossWords = []struct {
	status  int
	code    int
	message string
}{
	{400, -32602, "no session of that name"}, {404, -32601, "unknown method session/list"}, {404, -32002, "session://1 not found"},
	{400, -32000, "division by zero"}, {500, -32000, "session not found"}, {409, -32000, "session not found"},
	{404, -32000, "no such block"}, {503, -32000, "try later"},
}

// TestWindowLossWords: an error in the words of a lost session is everybody's, in whose name it may be, and nobody's call is sent
// again by the window; another one is of the call that it names.
func TestWindowLossWords(t *testing.T) {
	run := func(t *testing.T, status, code int, message string, named bool) (bodies []string, sent int) {
		synctest.Test(t, func(t *testing.T) {
			server := &arrays{reply: func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
				id := "null"
				if named {
					id = string(calls[1].ID)
				}
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message)
				return &mcp.Result{Status: status, Header: header.List{}, Body: []byte(body)}, nil
			}}
			r := newWindow(server, 2, time.Minute)
			for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "sendBlock", 1), plainCall(`"b"`, "sendBlock", 2)}) {
				body := fmt.Sprint(g.err)
				if g.err == nil && g.res.Status == status {
					body = string(g.res.Body)
				}
				bodies = append(bodies, body)
			}
			r.Wait()
			sent = server.singles
		})
		return bodies, sent
	}
	for _, x := range lossWords {
		for _, named := range []bool{false, true} {
			bodies, sent := run(t, x.status, x.code, x.message, named)
			for i, id := range []string{"1", `"b"`} {
				if !named {
					id = "null"
				}
				want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, x.code, x.message)
				if bodies[i] != want || sent != 0 {
					t.Errorf("%d %d %q, named %v: call %d got %s, %d sent again", x.status, x.code, x.message, named, i, bodies[i], sent)
				}
			}
		}
	}
	for _, x := range notLossWords {
		bodies, _ := run(t, x.status, x.code, x.message, true)
		if strings.Contains(bodies[0], `"id":1,`) {
			t.Errorf("%d %d %q: the error of the second call is the first's, too: %s", x.status, x.code, x.message, bodies[0])
		}
	}
}

// TestWindowPassesOnNoOthers: an error that names a second call is not for everybody.
func TestWindowPassesOnNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{reply: func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
			return status(401, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":%s}}`, calls[0].ID, calls[1].ID))(nil)
		}}
		r := newWindow(server, 2, time.Minute)
		failed := 0
		for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "sendBlock", 1), plainCall("2", "sendBlock", 2)}) {
			if g.err != nil && failureIn(t, g).Sent == mcp.SentUnknown {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d calls failed, want the one that the error is not for", failed)
		}
		r.Wait()
	})
}

// TestWindowPassesOnBounded: a body with an id for each call counts once for each.
func TestWindowPassesOnBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 3<<20)
		server := &arrays{reply: func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
			return status(401, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":%q}}`, calls[0].ID, long))(nil)
		}}
		r := newWindow(server, 2, time.Minute)
		for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "sendBlock", 1), plainCall("2", "sendBlock", 2)}) {
			if f := failureIn(t, g); f.Reason != mcp.ReasonBadAnswer || f.Sent != mcp.SentUnknown {
				t.Errorf("%+v", f)
			}
		}
		r.Wait()
	})
}

// TestWindowSingleAfterwards: a call that goes by itself after it may have run in an array says so when it fails. What the
// server refused whole has not run.
func TestWindowSingleAfterwards(t *testing.T) {
	for _, x := range []struct {
		name   string
		reply  func([]string) (*mcp.Result, error)
		single mcp.Sent
		want   mcp.Sent
	}{
		{"spoilt", say("[]"), mcp.SentNo, mcp.SentUnknown},
		{"spoilt", say("[]"), mcp.SentYes, mcp.SentYes},
		{"broke off", streamed(&mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes},
			func([]string) []string { return nil }), mcp.SentNo, mcp.SentYes},
		{"refused", status(413, "no"), mcp.SentNo, mcp.SentNo},
	} {
		t.Run(x.name+", then "+string(x.single), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refusal := mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: x.single}
				shared := refusal
				server := &arrays{
					reply:  func(context.Context, *mcp.Call, []element) (*mcp.Result, error) { return x.reply(nil) },
					single: func(context.Context, *mcp.Call) (*mcp.Result, error) { return nil, &shared },
				}
				r := newWindow(server, 2, time.Minute)
				for _, g := range r.together(t.Context(), []*mcp.Call{plainCall("1", "getBlock", 1), plainCall("2", "getBlock", 2)}) {
					if f := failureIn(t, g); f.Reason != mcp.ReasonBreakerOpen || f.Sent != x.want {
						t.Errorf("%+v, want sent %s", f, x.want)
					}
				}
				if shared != refusal {
					t.Errorf("the stage's own failure was changed: %+v", shared)
				}
				r.Wait()
			})
		})
	}
}
