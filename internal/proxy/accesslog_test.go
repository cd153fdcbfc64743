package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/proxy"
)

// accessed is a handler of which each request gives its access line.
type accessed struct {
	t       *testing.T
	handler *proxy.Handler
	reg     *prometheus.Registry
	log     bytes.Buffer
	next    mcp.CallerFunc
}

func newAccessed(t *testing.T) *accessed {
	t.Helper()
	a := &accessed{t: t, reg: prometheus.NewRegistry()}
	d, err := proxy.New(proxy.Options{
		Upstreams: []proxy.Route{{
			Name: "s", URL: mustURL(t, "http://server.test/mcp"),
			Caller: mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) { return a.next(ctx, c) }),
		}},
		BodyLimit: 1 << 20, Metrics: proxy.NewMetrics(a.reg), Log: slog.New(slog.NewJSONHandler(&a.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	a.handler = d
	return a
}

// post sends one request, which is answered so, and returns its access line.
func (a *accessed) post(body, session string, res *mcp.Result) map[string]any {
	a.t.Helper()
	a.log.Reset()
	a.next = func(context.Context, *mcp.Call) (*mcp.Result, error) { return res, nil }
	r := httptest.NewRequest("POST", "http://localhost/mcp/s", strings.NewReader(body))
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	a.handler.ServeHTTP(httptest.NewRecorder(), r)
	line := map[string]any{}
	if err := json.Unmarshal(a.log.Bytes(), &line); err != nil {
		a.t.Fatalf("the log is %q", a.log.String())
	}
	return line
}

// count returns the observations of a duration histogram's kind.
func (a *accessed) count(kind string) (n uint64) {
	a.t.Helper()
	families, err := a.reg.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == "fluentd_perf_request_duration_seconds" && l.GetName() == "kind" && l.GetValue() == kind {
					n += m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	return n
}

const (
	initAs     = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"version":"1","name":"claude-code"}}}`
	callSearch = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search \u0041","arguments":{"name":"hidden"}}}`
)

func inSession(id string) *mcp.Result {
	res := scanned(200, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	res.Header = header.Of(http.Header{"Mcp-Session-Id": {id}})
	return res
}

// TestAccessLineSaysWho: tool, agent, session and isError are in the line, the session's id is not; in legacy the agent is
// who began the session.
func TestAccessLineSaysWho(t *testing.T) {
	a := newAccessed(t)
	first := a.post(initAs, "", inSession("one-long-id"))
	session, _ := first["session"].(string)
	if first["agent"] != "claude-code" || len(session) != 12 {
		t.Errorf("initialize: %v", first)
	}
	line := a.post(callSearch, "one-long-id", scanned(200, `{"jsonrpc":"2.0","id":2,"result":{"content":[],"isError":true}}`))
	if line["tool"] != "search A" || line["agent"] != "claude-code" || line["session"] != session || line["isError"] != true || line["outcome"] != "tool_error" {
		t.Errorf("a tool that failed: %v", line)
	}
	if strings.Contains(a.log.String(), "one-long-id") || strings.Contains(a.log.String(), "hidden") {
		t.Errorf("the log is %s", a.log.String())
	}
	line = a.post(callSearch, "another-id", scanned(200, `{"jsonrpc":"2.0","id":2,"result":{"content":[]}}`))
	if line["agent"] != nil || line["session"] == session || line["isError"] != false || line["outcome"] != "ok" {
		t.Errorf("a tool that worked, in a session of before: %v", line)
	}
	line = a.post(`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"name":"x","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"cursor"}}}}`, "",
		scanned(200, `{"jsonrpc":"2.0","id":2,"result":{"isError":true}}`))
	if line["agent"] != "cursor" || line["tool"] != nil || line["session"] != nil || line["isError"] != nil || line["outcome"] != "ok" {
		t.Errorf("a modern list: %v", line)
	}
}

// TestAccessLineOfOddAgents: what agents call themselves is bounded, and may be anything.
func TestAccessLineOfOddAgents(t *testing.T) {
	a := newAccessed(t)
	for _, c := range []struct{ info, want string }{
		{`{"name":"` + strings.Repeat("x", 5000) + `"}`, strings.Repeat("x", 100)},
		{`{"name":7}`, ""}, {`{}`, ""}, {`[]`, ""}, {`null`, ""}, {`{"name":"a","name":"b"}`, ""},
	} {
		line := a.post(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":`+c.info+`}}`, "", inSession("s"))
		if got, _ := line["agent"].(string); got != c.want {
			t.Errorf("%.40s: %q", c.info, got)
		}
	}
}

// TestAgentsAreBounded: agents of sessions that nobody uses are forgotten, those of sessions in use are not.
func TestAgentsAreBounded(t *testing.T) {
	a := newAccessed(t)
	call := func(session string) any {
		return a.post(callSearch, session, scanned(200, `{"jsonrpc":"2.0","id":2,"result":{}}`))["agent"]
	}
	a.post(initAs, "", inSession("used"))
	a.post(initAs, "", inSession("idle"))
	for i := range 12_000 {
		a.post(initAs, "", inSession(strconv.Itoa(i)))
		if i%1000 == 0 && call("used") != "claude-code" {
			t.Fatalf("after %d sessions the agent of one in use was forgotten", i)
		}
	}
	if got := call("idle"); got != nil {
		t.Errorf("after 12,000 sessions %v is still known", got)
	}
}

// TestAccessLineDurations: durations are numbers of milliseconds, and their names say so.
func TestAccessLineDurations(t *testing.T) {
	a := newAccessed(t)
	res := scanned(200, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	res.Timing = mcp.Timing{Queue: 1500 * time.Microsecond, Connect: 2 * time.Second, FirstByte: 3 * time.Minute, Upstream: 10 * time.Microsecond}
	line := a.post(listTools, "", res)
	for name, want := range map[string]float64{"queue_ms": 1.5, "connect_ms": 2000, "ttfb_ms": 180_000, "answered_ms": 0.01} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	if took, ok := line["took_ms"].(float64); !ok || took < 0 || took > 10_000 {
		t.Errorf("took_ms is %v", line["took_ms"])
	}
	for _, name := range []string{"took", "queue", "connect", "ttfb", "answered"} {
		if line[name] != nil {
			t.Errorf("%s has no unit", name)
		}
	}
}

// TestToolErrorInStream: isError is seen in an event too.
func TestToolErrorInStream(t *testing.T) {
	a := newAccessed(t)
	for data, want := range map[string]string{
		`{"jsonrpc":"2.0","id":2,"result":{"isError":true}}`:             "tool_error",
		`{"jsonrpc":"2.0","id":2,"result":{"isError":false}}`:            "ok",
		`{"jsonrpc":"2.0","id":2,"result":{"isError":"true"}}`:           "ok",
		`{"jsonrpc":"2.0","id":2,"error":{"code":1,"isError":true}}`:     "rpc_error",
		`{"jsonrpc":"2.0","id":2,"result":{"content":{"isError":true}}}`: "ok",
	} {
		ev := mcp.Event{Raw: []byte("data: " + data + "\n\n"), Data: []byte(data), Answer: true}
		if err := mcp.Scan(ev.Data, &ev.Message); err != nil {
			t.Fatal(err)
		}
		res := &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: &scripted{events: []mcp.Event{ev}, end: io.EOF}}
		if line := a.post(callSearch, "", res); line["outcome"] != want {
			t.Errorf("%s: %v, want %s", data, line["outcome"], want)
		}
	}
}

// TestKinds: the time of a request is counted by what it is, and apart from the rest where the server was not asked.
func TestKinds(t *testing.T) {
	a := newAccessed(t)
	ok := func() *mcp.Result { return scanned(200, `{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`) }
	cached, collapsed := ok(), ok()
	cached.Cached, collapsed.Collapsed = true, true
	for _, c := range []struct {
		body string
		res  *mcp.Result
		kind string
	}{
		{initAs, ok(), "handshake"}, {listTools, ok(), "list"}, {listTools, cached, "hit"}, {callSearch, collapsed, "hit"},
		{callSearch, ok(), "call"}, {strings.Replace(listTools, "tools/list", "prompts/get", 1), ok(), "read"},
		{strings.Replace(listTools, "tools/list", "tasks/get", 1), ok(), "other"}, {`[]`, ok(), "other"},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, scanned(202, ""), "other"},
	} {
		before := a.count(c.kind)
		if a.post(c.body, "", c.res); a.count(c.kind) != before+1 {
			t.Errorf("%s is not counted as %s", c.body, c.kind)
		}
	}
}

// TestAccessLineIsBounded holds that what a server puts into its Cache-Status does not fill the log.
func TestAccessLineIsBounded(t *testing.T) {
	a := newAccessed(t)
	res := scanned(200, `{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`)
	res.Header = header.Of(http.Header{"Cache-Status": {"fluentd-perf; " + strings.Repeat("x", 10_000)}})
	if a.post(listTools, "", res); a.log.Len() > 1000 {
		t.Errorf("a line of %d bytes", a.log.Len())
	}
}
