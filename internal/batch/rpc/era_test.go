package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/mcp"
)

const ping2 = `[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","id":1,"method":"prompts/list"}]`

func (s *eraServer) blameless(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != "" {
		tb.Error(s.fault)
	}
}

// TestArrayModern finds a modern server by server/discover, once, and adds what its envelope needs.
func TestArrayModern(t *testing.T) {
	s := &eraServer{modern: true}
	r := newArrayRig(s.call, nil)
	for range 2 {
		wantReplies(t, r.answers(t, t.Context(), strings.ReplaceAll(ping2, "tools", "resources"),
			"Mcp-Method", "nonsense", "Idempotency-Key", "k", "Last-Event-Id", "7", "X-Own", "y"),
			"1: \"2026-07-28\"", "1: \"2026-07-28\"")
	}
	if n := len(r.sent("server/discover")); n != 1 {
		t.Errorf("discover was called %d times, want 1", n)
	}
	for _, c := range r.sent("") {
		asScanned(t, c)
		if c.Header.Get("X-Own") != "y" || c.Era != mcp.EraModern || !c.Regular() || c.Conn != "127.0.0.1:1" {
			t.Errorf("%s went out with %v, regular %v", c.Body, c.Header, c.Regular())
		}
	}
	s.blameless(t)
	r.close(t)
}

// TestArrayStatedEra takes the caller's word: nothing is asked.
func TestArrayStatedEra(t *testing.T) {
	own := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	for name, x := range map[string]struct {
		body   string
		header []string
		want   string
	}{
		"_meta":             {own, nil, "2026-07-28"},
		"_meta and session": {own, []string{"Mcp-Session-Id", "mine"}, "2026-07-28"},
		"modern header":     {`{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Mcp-Protocol-Version", "2026-07-28"}, "2026-07-28"},
		"session":           {`{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Mcp-Session-Id", "mine"}, "mine"},
		"session, version":  {`{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Mcp-Session-Id", "mine", "Mcp-Protocol-Version", "2025-06-18"}, "mine2025-06-18"},
		"legacy header":     {`{"jsonrpc":"2.0","id":1,"method":"ping"}`, []string{"Mcp-Protocol-Version", "2025-11-25"}, "session-12025-06-18"},
	} {
		s := &eraServer{modern: true, legacy: true, mints: true, sessions: []string{"mine"}}
		r := newArrayRig(s.call, nil)
		_, body, err := r.ask(t.Context(), arrayCall(x.body, x.header...))
		if want := fmt.Sprintf(`"result":%q`, x.want); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %s, %v, want %s", name, body, err, want)
		}
		if n := len(r.sent("server/discover")); n != 0 {
			t.Errorf("%s: discover was called", name)
		}
		s.blameless(t)
		r.close(t)
	}
}

// TestArrayMeta adds to params what is missing, wherever it goes, and nothing else.
func TestArrayMeta(t *testing.T) {
	const version = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
	const info = `"io.modelcontextprotocol/clientInfo":{"name":"fluentd-perf","version":"1.2.3"}`
	const caps = `"io.modelcontextprotocol/clientCapabilities":{}`
	all := version + "," + info + "," + caps
	for _, x := range [][2]string{
		{`{"jsonrpc":"2.0","id":ID,"method":"m"}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + all + `}}}`},
		{` {"method":"m","jsonrpc":"2.0","id":ID } `, `{"method":"m","jsonrpc":"2.0","id":ID ,"params":{"_meta":{` + all + `}}}`},
		{`{"params":{ },"jsonrpc":"2.0","id":ID,"method":"m"}`, `{"params":{"_meta":{` + all + `} },"jsonrpc":"2.0","id":ID,"method":"m"}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"a":1}}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + all + `},"a":1}}`},
		{`{"jsonrpc":"2.0","method":"m","params":{"_meta":{}},"id":ID}`, `{"jsonrpc":"2.0","method":"m","params":{"_meta":{` + all + `}},"id":ID}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{ "x":1}}}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + all + `, "x":1}}}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + caps + `}}}`,
			`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + version + "," + info + "," + caps + `}}}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + all + `}}}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":{` + all + `}}}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":[1]}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":[1]}`},
		{`{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":7}}`, `{"jsonrpc":"2.0","id":ID,"method":"m","params":{"_meta":7}}`},
	} {
		for _, id := range []string{"17", `"a longer id than that of the daemon's own, which is short enough"`, "null"} {
			r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
				asScanned(t, c)
				want := strings.ReplaceAll(x[1], "ID", string(c.ID()))
				if got := strings.TrimSpace(string(c.Body)); got != want {
					t.Errorf("%s went out as\n%s, want\n%s", x[0], got, want)
				}
				if null := string(c.ID()) == "null"; null != (id == "null") || string(c.ID()) == id && !null {
					t.Errorf("the id %s went out as %s", id, c.ID())
				}
				return answerOK(c, "1")
			}, nil)
			wantReplies(t, r.answers(t, t.Context(), "["+strings.ReplaceAll(x[0], "ID", id)+"]", modernHeader, modernVer), id+": 1")
			r.close(t)
		}
	}
}

// TestArrayLegacy finds a legacy server out, however it refuses modern requests, and speaks on one session of its own.
func TestArrayLegacy(t *testing.T) {
	for name, refusal := range legacyRefusals {
		for _, mints := range []bool{true, false} {
			s := &eraServer{legacy: true, mints: mints, modernRefusal: refusal}
			r := newArrayRig(s.call, nil)
			want := `1: "2025-06-18"`
			if mints {
				want = `1: "session-12025-06-18"`
			}
			for range 2 {
				wantReplies(t, r.answers(t, t.Context(), ping2), want, want)
			}
			if d, i, n := len(r.sent("server/discover")), len(r.sent("initialize")), len(r.sent("notifications/initialized")); d != 1 || i != 1 || n != 1 {
				t.Errorf("%s: %d server/discover, %d initialize, %d initialized, want 1 each", name, d, i, n)
			}
			r.close(t)
			if n := len(s.sessions); n != 0 {
				t.Errorf("%s: %d sessions are left", name, n)
			}
			s.blameless(t)
		}
	}
}

// TestArraySessionWithQuery holds that a session of the daemon's own is of one query, as it is of one credential: all that goes
// out on it has the query, to the DELETE that ends it.
func TestArraySessionWithQuery(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(s.call, nil)
	queries := []string{"tenant=a", "tenant=b", ""}
	for _, query := range queries {
		c := arrayCall(ping2)
		c.Query = query
		if code, body, err := r.ask(t.Context(), c); err != nil || code != 200 || strings.Contains(body, "error") {
			t.Errorf("%q: %d %s, %v", query, code, body, err)
		}
	}
	r.close(t)
	of := map[string]string{}
	for _, c := range r.sent("tools/list") {
		if id := c.Header.Get("Mcp-Session-Id"); id != "" {
			of[id] = c.Query
		}
	}
	ends := r.sent("DELETE")
	if len(of) != len(queries) || len(ends) != len(queries) {
		t.Fatalf("%d sessions and %d ends, want %d", len(of), len(ends), len(queries))
	}
	for _, c := range ends {
		if want, ok := of[c.Header.Get("Mcp-Session-Id")]; !ok || c.Query != want {
			t.Errorf("the session of %q ended with %q", want, c.Query)
		}
	}
	s.blameless(t)
}

// TestArrayOneSession opens one session for all who wait, and one for each credential.
func TestArrayOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &eraServer{legacy: true, mints: true, slow: time.Second, modernRefusal: legacyRefusals["text"]}
		r := newArrayRig(s.call, nil)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				got := r.answers(t, t.Context(), ping2, "Authorization", fmt.Sprint("user ", i%2))
				if got[0].String() != got[1].String() {
					t.Errorf("two sessions in one array: %v", got)
				}
			})
		}
		wg.Wait()
		if d, i := len(r.sent("server/discover")), len(r.sent("initialize")); d != 2 || i != 2 {
			t.Errorf("%d server/discover and %d initialize for two credentials, want 2 each", d, i)
		}
		owner := map[string]string{}
		for _, c := range r.sent("") {
			id, auth := c.Header.Get("Mcp-Session-Id"), c.Header.Get("Authorization")
			if first, ok := owner[id]; ok && id != "" && first != auth {
				t.Errorf("the session %s is of %s and %s", id, first, auth)
			}
			owner[id] = auth
		}
		r.close(t)
		s.blameless(t)
	})
}

// TestArrayIdleSession ends a session after five minutes without a call, not before, and opens another when one is needed.
func TestArrayIdleSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
		r := newArrayRig(s.call, nil)
		for _, pause := range []time.Duration{0, 4 * time.Minute, 4*time.Minute + 59*time.Second} {
			<-time.After(pause)
			wantReplies(t, r.answers(t, t.Context(), ping2), `1: "session-12025-06-18"`, `1: "session-12025-06-18"`)
		}
		<-time.After(5*time.Minute + time.Second)
		synctest.Wait()
		if n := len(r.sent("DELETE")); n != 1 || len(s.sessions) != 0 {
			t.Errorf("%d DELETEs, %d sessions, want 1 and 0", n, len(s.sessions))
		}
		wantReplies(t, r.answers(t, t.Context(), ping2), `1: "session-22025-06-18"`, `1: "session-22025-06-18"`)
		r.close(t)
		s.blameless(t)
	})
}

// TestArrayLostSession opens a lost session anew, once for all elements, and runs nothing twice.
func TestArrayLostSession(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(s.call, nil)
	var elements, want []string
	for i := range 100 {
		elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"t%d"}}`, i, i))
		want = append(want, fmt.Sprintf(`%d: "session-22025-06-18"`, i))
	}
	r.answers(t, t.Context(), ping2)
	s.mu.Lock()
	s.sessions = nil // it has restarted
	s.mu.Unlock()
	wantReplies(t, r.answers(t, t.Context(), joinElements(elements)), want...)
	ran := map[string]int{}
	for _, name := range s.ran {
		ran[name]++
	}
	for name, n := range ran {
		if n != 1 {
			t.Errorf("%s ran %d times", name, n)
		}
	}
	if len(ran) != 100 || s.minted != 2 {
		t.Errorf("%d tools ran on %d sessions, want 100 and 2", len(ran), s.minted)
	}
	// The caller's own session is the caller's to open anew.
	wantReplies(t, r.answers(t, t.Context(), ping2, "Mcp-Session-Id", "gone"),
		"1: error 1502 bad_answer, sent yes", "1: error 1502 bad_answer, sent yes")
	r.close(t)
	s.blameless(t)
}

// TestArrayLostAnswer breaks a call off after it ran: it is not sent again.
func TestArrayLostAnswer(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		res, err := s.call(ctx, c)
		if c.Method() == mcp.MethodToolsCall {
			_ = res.Close()
			return nil, &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
		}
		return res, err
	}, nil)
	wantReplies(t, r.answers(t, t.Context(), `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}]`),
		"1: error 1502 broke_off, sent unknown")
	if len(s.ran) != 1 {
		t.Errorf("the tool ran %d times", len(s.ran))
	}
	r.close(t)
}

// TestArrayHealedSession sends again what met a 1410 on a session of the daemon's own: nobody has state there.
func TestArrayHealedSession(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, sessions: []string{"mine"}, modernRefusal: legacyRefusals["text"]}
	notices := 1
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Method() == mcp.MethodToolsCall && notices > 0 {
			notices--
			return nil, &mcp.Failure{Code: mcp.CodeSessionRestart, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo}
		}
		return s.call(ctx, c)
	}, nil)
	body := `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}]`
	wantReplies(t, r.answers(t, t.Context(), body), `1: "session-12025-06-18"`)
	notices = 1
	wantReplies(t, r.answers(t, t.Context(), body, "Mcp-Session-Id", "mine"), "1: error 1410 session_restarted, sent no")
	r.close(t)
}

// TestArrayEraChanges lets a server change its era: what did not run is sent in the other, and later arrays know.
func TestArrayEraChanges(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["no session"]}
	r := newArrayRig(s.call, nil)
	wantReplies(t, r.answers(t, t.Context(), ping2), `1: "session-12025-06-18"`, `1: "session-12025-06-18"`)
	s.mu.Lock()
	s.modern, s.legacy, s.sessions, s.mints = true, false, nil, true
	s.tools = ""
	s.mu.Unlock()
	resources := strings.ReplaceAll(ping2, "tools", "resources")
	// A modern server does not know the session, and says so in its own way.
	got := r.answers(t, t.Context(), resources)
	for _, p := range got {
		if p.Error == nil || p.Error.Code != -32601 {
			t.Errorf("%v, want the server's own answer", p)
		}
	}
	s.mu.Lock()
	s.legacy = true // and as a server with both eras: the session is lost
	s.mu.Unlock()
	wantReplies(t, r.answers(t, t.Context(), resources), `1: "session-22025-06-18"`, `1: "session-22025-06-18"`)
	s.mu.Lock()
	s.legacy, s.misses = false, true // and as one that misses what a modern request has
	s.mu.Unlock()
	wantReplies(t, r.answers(t, t.Context(), resources), `1: "2026-07-28"`, `1: "2026-07-28"`)
	s.blameless(t)
	r.close(t)

	m := &eraServer{modern: true}
	r = newArrayRig(m.call, nil)
	wantReplies(t, r.answers(t, t.Context(), resources), `1: "2026-07-28"`, `1: "2026-07-28"`)
	m.mu.Lock()
	m.modern, m.legacy, m.mints, m.modernRefusal = false, true, true, legacyRefusals["version"]
	m.mu.Unlock()
	for range 2 {
		wantReplies(t, r.answers(t, t.Context(), resources), `1: "session-12025-06-18"`, `1: "session-12025-06-18"`)
	}
	if d := len(r.sent("server/discover")); d != 1 {
		t.Errorf("discover was called %d times, want 1", d)
	}
	m.blameless(t)
	r.close(t)
}

// TestArrayUnknownEra holds what elements get of a server that cannot be asked, and that nothing is remembered of it.
func TestArrayUnknownEra(t *testing.T) {
	answer := func(context.Context, *mcp.Call) (*mcp.Result, error) { return whole(401, "who?"), nil }
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) { return answer(ctx, c) }, nil)
	resources := strings.ReplaceAll(ping2, "tools", "resources")
	wantReplies(t, r.answers(t, t.Context(), resources), "1: error 1502 bad_answer, sent no", "1: error 1502 bad_answer, sent no")
	answer = func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return nil, &mcp.Failure{Code: 1503, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo}
	}
	wantReplies(t, r.answers(t, t.Context(), resources), "1: error 1503 breaker_open, sent no", "1: error 1503 breaker_open, sent no")
	answer = func(_ context.Context, c *mcp.Call) (*mcp.Result, error) { return whole(404, "nothing here"), nil }
	wantReplies(t, r.answers(t, t.Context(), resources), "1: error 1502 bad_answer, sent no", "1: error 1502 bad_answer, sent no")
	answer = func(context.Context, *mcp.Call) (*mcp.Result, error) { panic("planted") }
	wantReplies(t, r.answers(t, t.Context(), resources), "1: error 1502 broke_off, sent no", "1: error 1502 broke_off, sent no")
	answer = (&eraServer{modern: true}).call
	wantReplies(t, r.answers(t, t.Context(), resources), `1: "2026-07-28"`, `1: "2026-07-28"`)
	r.close(t)
}

// TestArrayPlain sends elements of `protocol: jsonrpc` as they are, with nothing of MCP's.
func TestArrayPlain(t *testing.T) {
	element := ` {"jsonrpc" : "2.0","id":1.0, "method":"tools/call", "params":[1]} `
	r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		if string(c.Body) != strings.TrimSpace(element) || c.Era != mcp.EraPlain || c.Method() != mcp.MethodOther || !c.Regular() {
			t.Errorf("%s went out as %s", element, c.Body)
		}
		for _, f := range c.Header {
			if strings.HasPrefix(f.Name, "Mcp-") {
				t.Errorf("the header has a %s", f.Name)
			}
		}
		if c.Header.Get("Accept") != "*/*" || c.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the header is %v", c.Header)
		}
		return answerOK(c, "1")
	}, func(o *rpc.Options) { o.Plain = true; o.Partition = nil })
	wantReplies(t, r.answers(t, t.Context(), "["+element+"]"), "1.0: 1")
	r.close(t)
}

// TestArrayManySessions bounds the sessions: the one that nobody used for longest gives way.
func TestArrayManySessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
		r := newArrayRig(s.call, nil)
		for i := range 1002 {
			r.answers(t, t.Context(), ping2, "Authorization", fmt.Sprint(i))
			<-time.After(time.Millisecond)
		}
		synctest.Wait()
		if n := len(r.sent("DELETE")); n != 2 || len(s.sessions) != 1000 {
			t.Errorf("%d DELETEs and %d sessions, want 2 and 1000", n, len(s.sessions))
		}
		for _, c := range r.sent("DELETE") {
			if auth := c.Header.Get("Authorization"); auth != "0" && auth != "1" {
				t.Errorf("the session of %s gave way, want one of the oldest", auth)
			}
		}
		r.close(t)
		if len(s.sessions) != 0 {
			t.Errorf("%d sessions are left", len(s.sessions))
		}
	})
}

// TestArrayCloseSessions ends all sessions at once at Close, and waits five seconds for a server that does not answer.
func TestArrayCloseSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if c.Lane == mcp.LaneEnd {
				return nil, after(ctx, time.Hour)
			}
			return s.call(ctx, c)
		}, nil)
		for i := range 100 {
			r.answers(t, t.Context(), ping2, "Authorization", fmt.Sprint(i))
		}
		start := time.Now()
		r.close(t)
		if n, took := len(r.sent("DELETE")), time.Since(start); n != 100 || took != 5*time.Second {
			t.Errorf("%d DELETEs in %v, want 100 in 5s", n, took)
		}
	})
}

// TestArrayHalfOpened ends a session whose server did not take notifications/initialized, and says why the calls were not sent.
func TestArrayHalfOpened(t *testing.T) {
	s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane == mcp.LaneNotification {
			return whole(500, "no"), nil
		}
		return s.call(ctx, c)
	}, nil)
	wantReplies(t, r.answers(t, t.Context(), ping2), "1: error 1502 bad_answer, sent no", "1: error 1502 bad_answer, sent no")
	r.close(t)
	if n := len(r.sent("DELETE")); n != s.minted || len(s.sessions) != 0 {
		t.Errorf("%d sessions, %d DELETEs, %d are left", s.minted, n, len(s.sessions))
	}
}
