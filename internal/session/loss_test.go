package session_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

func rpcError(id string, code int, message string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message)
}

// lossOf makes what a server says of a session that it does not know, to a call.
type lossOf func(c *mcp.Call) *mcp.Result

func says(status int, text_ string) lossOf {
	return func(*mcp.Call) *mcp.Result { return text(status, text_) }
}

func saysNull(status, code int, message string) lossOf {
	return func(*mcp.Call) *mcp.Result { return jsonBody(status, rpcError("null", code, message)) }
}

func saysOwn(status, code int, message string) lossOf {
	return func(c *mcp.Call) *mcp.Result {
		id := "null"
		if c.Message.Kind == mcp.KindRequest {
			id = string(c.ID())
		}
		return jsonBody(status, rpcError(id, code, message))
	}
}

func inOneEvent(l lossOf) lossOf {
	return func(c *mcp.Call) *mcp.Result { r := l(c); return oneEvent(r.Status, string(r.Body)) }
}

// losing answers calls in unknown sessions so.
func (w *fakeServer) losing(l lossOf) {
	w.unknown = func(c *mcp.Call) *mcp.Result { return l(c) }
}

// shapes are the ways in which servers say that they do not know a session, with how many pings it takes to be sure, for a
// list and for a tools/call.
var shapes = map[string]struct {
	says       lossOf
	list, tool int
}{
	"Go":                     {says(404, "session not found\n"), 0, 0},
	"TypeScript":             {saysNull(404, -32001, "Session not found"), 0, 0},
	"TypeScript, its own id": {saysOwn(404, -32001, "Session not found"), 0, 1},
	"Python 1.26": {func(*mcp.Call) *mcp.Result {
		return jsonBody(404, rpcError(`"server-error"`, -32600, "Session not found"))
	}, 0, 0},
	"Python before":            {says(400, "Bad Request: No valid session ID provided"), 0, 0},
	"Python before, no type":   {func(*mcp.Call) *mcp.Result { return whole(400, "", "Bad Request: No valid session ID provided") }, 0, 0},
	"one transport":            {saysNull(400, -32000, "Bad Request: Server not initialized"), 0, 0},
	"one transport, one event": {inOneEvent(saysNull(400, -32000, "Bad Request: Server not initialized")), 0, 0},
	"an example":               {saysNull(400, -32000, "Bad Request: No valid session ID provided"), 0, 0},
	"a copy":                   {saysNull(400, -32000, "Bad Request: No valid session ID or not an initialize request"), 1, 1},
	"a copy, one event":        {inOneEvent(saysNull(400, -32001, "Unknown session, send initialize")), 1, 1},
	"by hand":                  {saysNull(404, -32000, "Not Found: Unknown Mcp-Session-Id header"), 0, 0},
	"by hand, its own id":      {saysOwn(404, -32000, "No session s1 here"), 1, 1},
	"by hand, JSON of its own": {func(*mcp.Call) *mcp.Result {
		return jsonBody(404, `{"error":"session not found; initialize a new MCP session"}`)
	}, 0, 0},
	"by hand, 400 of its own":   {func(*mcp.Call) *mcp.Result { return jsonBody(400, `{"error":"Session expired"}`) }, 1, 1},
	"mcp-go":                    {says(400, "Invalid session ID"), 0, 0},
	"rmcp":                      {says(401, "Unauthorized: Session not found"), 1, 1},
	"gone":                      {says(410, ""), 0, 0},
	"away":                      {saysNull(503, -32001, "Service Unavailable: MCP session is unknown"), 1, 1},
	"away, in text":             {says(503, "no server for this session"), 1, 1},
	"HTML":                      {func(*mcp.Call) *mcp.Result { return whole(400, "text/html", "<p>Your session is over</p>") }, 1, 1},
	"not initialized, in words": {says(400, "This server has not been initialised yet"), 1, 1},
	"an array": {func(*mcp.Call) *mcp.Result {
		return jsonBody(404, `[`+rpcError("null", -32001, "Session not found")+`]`)
	}, 1, 1},
	"a loose one": {func(*mcp.Call) *mcp.Result {
		return jsonBody(400, "\ufeff"+rpcError("null", -32000, "Bad Request: Server not initialized"))
	}, 0, 0},
}

// TestLostSessions holds that every shape is known for what it is, by a list and by a tools/call, and how many pings it takes.
func TestLostSessions(t *testing.T) {
	for name, c := range shapes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeServer()
				a := newAgent(t, w, session.HealReads)
				a.begin()
				w.losing(c.says)
				w.restart()
				a.list()
				if n := w.count(mcp.LaneRequest, mcp.MethodPing); n != c.list {
					t.Errorf("a list: %d pings, want %d", n, c.list)
				}
				a.restarted()
				w.restart()
				a.restarted()
				if n := w.count(mcp.LaneRequest, mcp.MethodPing) - c.list; n != c.tool {
					t.Errorf("a tools/call: %d pings, want %d", n, c.tool)
				}
				a.tool()
				a.wantHeals(healed{"healed": 2})
			})
		})
	}
}

// pings answers pings so, and other requests so, whatever the session.
func (w *fakeServer) pings(ping func(c *mcp.Call) (*mcp.Result, error), others lossOf) {
	w.before = func(c *mcp.Call) (*mcp.Result, error) {
		switch {
		case c.Method() == mcp.MethodPing:
			return ping(c)
		case c.Lane == mcp.LaneRequest && c.Method() != mcp.MethodInitialize:
			return others(c), nil
		}
		return nil, nil
	}
}

// TestNotLost holds that only what gives the ping the same status and a loss in its words is lost: else the server's answer
// passes as it came, and nothing is opened again.
func TestNotLost(t *testing.T) {
	answer := func(l lossOf) func(*mcp.Call) (*mcp.Result, error) {
		return func(c *mcp.Call) (*mcp.Result, error) { return l(c), nil }
	}
	uncertain := saysNull(400, -32000, "No such session, or so it seems")
	for name, c := range map[string]struct {
		ping func(*mcp.Call) (*mcp.Result, error)
		says lossOf
	}{
		"alive": {answer(func(c *mcp.Call) *mcp.Result {
			return jsonBody(200, `{"jsonrpc":"2.0","id":`+string(c.ID())+`,"result":{}}`)
		}), uncertain},
		"an error of its own":      {answer(saysOwn(200, -32601, "session/ping: no such method")), uncertain},
		"the same status, its own": {answer(saysOwn(400, -32601, "session/ping: no such method")), uncertain},
		"the same, other words":    {answer(saysNull(400, -32000, "no")), uncertain},
		"another status":           {answer(saysNull(404, -32001, "Session not found")), uncertain},
		"busy":                     {answer(says(503, "busy")), uncertain},
		"no answer":                {func(*mcp.Call) (*mcp.Result, error) { return nil, errBroke }, uncertain},
		"not reached":              {func(*mcp.Call) (*mcp.Result, error) { return nil, errRefused }, uncertain},
		"a 401, alive":             {answer(says(200, "")), says(401, "the session of your token is over")},
		"a 503, alive":             {answer(says(202, "")), says(503, "too many sessions")},
		"a tool's own":             {answer(says(200, "")), saysOwn(404, -32001, "Session not found")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFakeServer()
				a := newAgent(t, w, session.HealReads)
				a.begin()
				w.pings(c.ping, c.says)
				call := a.call(mcp.LaneRequest, a.request("tools/call", `{"name":"t"}`))
				want := c.says(call)
				res, err := a.stage.Call(t.Context(), call)
				if err != nil || res.Status != want.Status || string(res.Body) != string(want.Body) || res.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
					t.Errorf("got %+v, %v", res, err)
				}
				if n := w.count(mcp.LaneRequest, mcp.MethodInitialize); n != 1 {
					t.Errorf("initialize came %d times", n)
				}
				if n := w.count(mcp.LaneRequest, mcp.MethodPing); n != 1 {
					t.Errorf("%d pings", n)
				}
				a.wantHeals(healed{})
			})
		})
	}
}

// TestSignIn holds that an answer that asks for signing in passes as it came, and costs no ping.
func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeServer()
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.pings(nil, func(*mcp.Call) *mcp.Result {
			res := jsonBody(401, rpcError("null", -32001, "Session not found"))
			res.Header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			return res
		})
		res, err := a.post(t.Context(), a.request("tools/list", `{}`))
		if err != nil || res.Status != 401 || res.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("got %+v, %v", res, err)
		}
		a.wantHeals(healed{})
	})
}

// TestOnePing holds that all who wait at the same time share one ping, that one credential's says nothing to another, and that
// who sent it may leave.
func TestOnePing(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.token = "two"
		a.list()
		w.pings(func(*mcp.Call) (*mcp.Result, error) {
			w.mu.Unlock()
			defer w.mu.Lock()
			wait(time.Second)
			return nil, nil
		}, saysNull(400, -32000, "no such session"))
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				b := *a
				b.token = [2]string{"one", "two"}[i%2]
				ctx := t.Context()
				if i < 2 {
					ctx = first
				}
				if res, err := b.post(ctx, b.request("tools/list", `{}`)); err != nil || res.Status != 400 {
					t.Errorf("got %v, %v", res, err)
				}
			})
			if i == 1 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		leave()
		wg.Wait()
		var with []string
		id := regexp.MustCompile(`^\d{16}$`)
		for _, c := range w.calls {
			if c.Method() != mcp.MethodPing {
				continue
			}
			with = append(with, c.Header.Get("Authorization"))
			n, err := strconv.ParseInt(string(c.ID()), 10, 64)
			if !id.Match(c.ID()) || err != nil || n >= 1<<53 || c.Header.Get("Mcp-Session-Id") != "s1" {
				t.Errorf("the ping %s went with %v", c.Body, c.Header)
			}
		}
		if got := strings.Join(with, " "); got != "one two" && got != "two one" {
			t.Errorf("pings with %q", got)
		}
	})
}

// TestPingTime holds that a ping takes two seconds at most, and goes past what calls go through.
func TestPingTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		w.pings(nil, saysNull(400, -32000, "no such session"))
		var pings, others int
		s := session.New(session.Options{
			Upstream: "s", Heal: session.HealReads, Credential: credential, Base: t.Context(),
			Next: mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) { others++; return w.Call(ctx, c) }),
			Probe: mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
				pings++
				<-ctx.Done()
				return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: ctx.Err()}
			}),
		})
		defer s.Close()
		a := &agent{t: t, w: w, stage: s, token: "one"}
		a.begin()
		start := time.Now()
		if got := a.wantStatus(400, a.request("tools/list", `{}`)); !strings.Contains(got, "no such session") || time.Since(start) != 2*time.Second {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		if pings != 1 || others != 3 {
			t.Errorf("%d pings, %d other calls", pings, others)
		}
	})
}

// TestRefusedHealing holds that a healing that is refused for want of authorization gives everybody who waits the server's own
// answer, as often as it takes, and that it costs none of the three in a minute.
func TestRefusedHealing(t *testing.T) {
	for _, status := range []int{401, 403} {
		for _, step := range []mcp.Method{mcp.MethodInitialize, mcp.MethodInitialized} {
			t.Run(fmt.Sprint(status, step), func(t *testing.T) {
				inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
					w.restart()
					w.before = func(c *mcp.Call) (*mcp.Result, error) {
						if c.Method() != step {
							return nil, nil
						}
						res := jsonBody(status, `{"error":"sign in"}`)
						res.Header.Set("WWW-Authenticate", `Bearer resource_metadata="x"`)
						res.Header.Set("Mcp-Session-Id", "other")
						return res, nil
					}
					check := func(res *mcp.Result, err error) {
						t.Helper()
						if err != nil || res.Status != status || string(res.Body) != `{"error":"sign in"}` || res.Header.Get("WWW-Authenticate") == "" ||
							res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Mcp-Session-Id") != "" {
							t.Errorf("got %+v, %v", res, err)
							return
						}
						res.Header.Set("X-Mine", "1") // each has its own
					}
					rounds, callers := 1, 1
					if step == mcp.MethodInitialize {
						rounds, callers = 10, 10 // no session was opened: it may be tried again at once
					}
					for range rounds {
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() { b := *a; check(b.post(t.Context(), b.request("tools/call", `{"name":"t"}`))) })
						}
						wg.Wait()
					}
					check(a.stage.Call(t.Context(), a.call(mcp.LaneStream, "")))
					synctest.Wait()
					if w.live() != 0 {
						t.Errorf("%d sessions are left on the server", w.live())
					}
					w.before = nil
					a.list()
				})
			})
		}
	}
}

// TestRefusalInPieces holds the same where the answer comes as bytes that pass: what is too large is left out.
func TestRefusalInPieces(t *testing.T) {
	for size, want := range map[int]int{10: 10, 64 << 10: 64 << 10, 64<<10 + 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			w := newFakeServer()
			a := newAgent(t, w, session.HealReads)
			a.begin()
			w.restart()
			w.before = func(c *mcp.Call) (*mcp.Result, error) {
				if c.Method() != mcp.MethodInitialize {
					return nil, nil
				}
				h := header.Of(http.Header{"Content-Type": {"text/html"}, "Content-Length": {strconv.Itoa(size)}, "Www-Authenticate": {"Bearer"}})
				return &mcp.Result{Status: 401, Header: h, Raw: pieces{strings.NewReader(strings.Repeat("x", size))}}, nil
			}
			res, err := a.post(t.Context(), a.request("tools/list", `{}`))
			must(err)
			length := map[bool]string{true: strconv.Itoa(size)}[want > 0]
			if res.Status != 401 || len(res.Body) != want || res.Header.Get("Content-Length") != length || res.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%d bytes: got %d of %d bytes, %v", size, res.Status, len(res.Body), res.Header)
			}
		})
	}
}

type pieces struct{ *strings.Reader }

func (pieces) Close() error { return nil }

// TestLooseInitialize holds that a loose answer opens a session that can be healed, and a loose request none.
func TestLooseInitialize(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		loosen  *strings.Replacer
		want    int
	}{
		"an id of another type": {"", strings.NewReplacer(`"id":0`, `"id":"0"`), 200},
		"error null":            {"", strings.NewReplacer(`"id":0,`, `"id":0,"error":null,`), 200},
		"a lone half":           {"", strings.NewReplacer(`"version":"`, `"title":"\ud83d","version":"`), 200},
		"a loose request":       {`{"jsonrpc":"2.0","id":0,"method":"initialize","params":null}`, strings.NewReplacer(), 404},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *fakeServer) {
				w.after = func(call *mcp.Call, res *mcp.Result) (*mcp.Result, error) {
					if call.Method() != mcp.MethodInitialize {
						return res, nil
					}
					if list, ok := res.Events.(*events); ok {
						for i, ev := range list.list {
							list.list[i] = answerTo([]byte(c.loosen.Replace(string(ev.Data))))
						}
						return res, nil
					}
					res.Body = []byte(c.loosen.Replace(string(res.Body)))
					res.Checked = false
					return scanned(res), nil
				}
				a := newAgent(t, w, session.HealReads)
				if c.request == "" {
					a.begin()
				} else {
					res, err := a.post(t.Context(), c.request)
					must(err)
					a.id = res.Header.Get("Mcp-Session-Id")
					body(t, res)
				}
				w.restart()
				a.wantStatus(c.want, a.request("tools/list", `{}`))
			})
		})
	}
}

// TestNotInitializedYet holds that a session whose server waits for notifications/initialized is not taken for lost: the ping
// would get the same words.
func TestNotInitializedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeServer()
		a := newAgent(t, w, session.HealReads)
		res, err := a.post(context.Background(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
		if err != nil || res.Status != 200 {
			t.Fatal(res, err)
		}
		a.id = res.Header.Get("Mcp-Session-Id")
		body(t, res)
		early := `{"jsonrpc":"2.0","id":99,"error":{"code":-32000,"message":"Session not initialized. Send notifications/initialized first."}}`
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == mcp.MethodInitialize || c.Lane == mcp.LaneNotification {
				return nil, nil
			}
			res := &mcp.Result{Status: 400, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(early)}
			must(mcp.Scan(res.Body, &res.Message))
			return res, nil
		}
		a.wantStatus(400, `{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"t"}}`)
		if n := w.count(mcp.LaneRequest, mcp.MethodInitialize); n != 1 {
			t.Errorf("%d initialize", n)
		}
	})
}

// TestFirstGETBeforeInitialized holds that a session whose server waits for notifications/initialized, and has no GET streams, is
// not taken for lost: a ping gets the words of a loss there.
func TestFirstGETBeforeInitialized(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		a := newAgent(t, w, session.HealReads)
		w.noStreams = 404
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == mcp.MethodPing {
				return jsonBody(400, rpcError("null", -32000, "Bad Request: Server not initialized")), nil
			}
			return nil, nil
		}
		a.initialize()
		if res := a.get(t.Context(), ""); res.Status != 404 || string(res.Body) != "no such route" {
			t.Errorf("got %d %s", res.Status, res.Body)
		}
		a.wantHeals(healed{})
	})
}

// TestGETOfUnknownSession holds that of a session that this stage did not see begin the server's own words pass, be it that it
// had a stream here.
func TestGETOfUnknownSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		const own = `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`
		w.loss = func() *mcp.Result { return jsonBody(404, own) }
		a := newAgent(t, w, session.HealReads)
		a.id = "from before"
		w.sessions[a.id] = &serverSession{}
		closed(t, a.get(t.Context(), ""))
		w.restart()
		if res := a.get(t.Context(), ""); res.Status != 404 || string(res.Body) != own {
			t.Errorf("got %d %s", res.Status, res.Body)
		}
		a.wantHeals(healed{"unknown": 1})
	})
}

// TestUnknownSession: whether there ever was a session that this daemon did not see begin only the server knows, so its own
// words pass, for a POST and for a GET.
func TestUnknownSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *fakeServer) {
		const body = `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`
		w.loss = func() *mcp.Result { return jsonBody(400, body) }
		a := newAgent(t, w, session.HealReads)
		a.id = "never seen"
		if got := a.wantStatus(400, a.request("tools/list", `{}`)); got != body {
			t.Errorf("the body is %q", got)
		}
		a.wantHeals(healed{"unknown": 1})
	})
}
