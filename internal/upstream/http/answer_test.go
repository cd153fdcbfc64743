package http_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

const good = `{"jsonrpc":"2.0","id":7,"result":{}}`

// batch is an array, as 2025-03-26 allows it.
const batch = `[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]`

// How an answer comes.
const (
	checked = "checked" // whole, strictly an answer to the call
	loose   = "loose"   // whole, and it is clear what it is
	opaque  = "opaque"  // whole, and not understood
	asBytes = "bytes"   // as it comes
)

// TestJSONAnswers holds that what comes whole by its framing is never refused, and what is noted on it.
func TestJSONAnswers(t *testing.T) {
	request := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	listen := `{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen"}`
	tool := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}`
	for name, tt := range map[string]struct {
		lane        mcp.Lane
		body        string
		status      int
		contentType string
		answer      string
		want        string
	}{
		"result":              {mcp.LaneRequest, request, 200, "application/json", good, checked},
		"of a tool":           {mcp.LaneRequest, tool, 200, "application/json", good, checked},
		"parameters":          {mcp.LaneRequest, request, 200, "Application/JSON; charset=utf-8", good, checked},
		"another 2xx":         {mcp.LaneRequest, request, 201, "application/json", good, checked},
		"same id, spelled 7.": {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7.0,"result":{}}`, checked},
		"error":               {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}`, checked},
		"error, null id":      {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}`, checked},
		"error, no id":        {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}`, checked},
		"listen refused":      {mcp.LaneListen, listen, 200, "application/json", `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no"}}`, checked},
		"batch":               {mcp.LaneBatch, batch, 200, "application/json", `[{"jsonrpc":"2.0","id":9,"result":{}}]`, checked},
		"batch, one error":    {mcp.LaneBatch, batch, 200, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`, checked},

		"result, null id":         {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":null,"result":{}}`, loose},
		"result, wrong id":        {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":8,"result":{}}`, loose},
		"result, id a string":     {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":"7","result":{}}`, loose},
		"the same of a tool":      {mcp.LaneRequest, tool, 200, "application/json", `{"jsonrpc":"2.0","id":"7","result":{}}`, loose},
		"error, wrong id":         {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":"no"}}`, loose},
		"half a surrogate":        {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7,"result":{"text":"cut \ud83d"}}`, loose},
		"Latin-1":                 {mcp.LaneRequest, tool, 200, "application/json", "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"text\":\"caf\xe9\"}}", loose},
		"error null":              {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7,"result":{},"error":null}`, loose},
		"result null":             {mcp.LaneRequest, tool, 200, "application/json", `{"jsonrpc":"2.0","id":7,"result":null,"error":{"code":1,"message":"no"}}`, loose},
		"an id with nothing else": {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7}`, loose},
		"an array of one":         {mcp.LaneRequest, request, 200, "application/json", "[" + good + "]", opaque},
		"an array of two":         {mcp.LaneRequest, request, 200, "application/json", "[" + good + `,{"jsonrpc":"2.0","id":8,"result":{}}]`, opaque},
		"a request":               {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","id":7,"method":"ping"}`, opaque},
		"a notification":          {mcp.LaneRequest, request, 200, "application/json", `{"jsonrpc":"2.0","method":"x"}`, opaque},
		"not JSON":                {mcp.LaneRequest, request, 200, "application/json", `<html>`, opaque},
		"not JSON, of a tool":     {mcp.LaneRequest, tool, 200, "application/json", `<html>`, opaque},
		"JSON cut short":          {mcp.LaneRequest, request, 200, "application/json", good[:len(good)-1], opaque},
		"something after it":      {mcp.LaneRequest, request, 200, "application/json", good + "{}", opaque},
		"empty":                   {mcp.LaneRequest, request, 200, "application/json", "", opaque},
		"blank":                   {mcp.LaneRequest, request, 200, "application/json", " \r\n", opaque},
		"202 for a request":       {mcp.LaneRequest, request, 202, "", "", opaque},
		"204 for a request":       {mcp.LaneRequest, request, 204, "", "", opaque},
		"an opaque request":       {mcp.LaneOpaque, "[", 200, "application/json", good, opaque},
		"batch, not JSON":         {mcp.LaneBatch, batch, 200, "application/json", `[{"jsonrpc"]`, opaque},
		"batch, empty array":      {mcp.LaneBatch, batch, 200, "application/json", `[]`, opaque},
		"batch, empty":            {mcp.LaneBatch, batch, 200, "application/json", ``, opaque},
		"text/html":               {mcp.LaneRequest, request, 200, "text/html", good, asBytes},
		"no content type":         {mcp.LaneRequest, request, 200, "", good, asBytes},
		"202 with a text":         {mcp.LaneRequest, request, 202, "text/plain", "Accepted", asBytes},
		"listen, text":            {mcp.LaneListen, listen, 200, "text/plain", "ok", asBytes},
		"batch, HTML":             {mcp.LaneBatch, batch, 200, "text/html", `<html>`, asBytes},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, saying(tt.status, tt.contentType, tt.answer))
			u := newUpstream(t, s.URL())
			res := mustCall(t, u, onLane(tt.lane, tt.body))
			if got := mannerOf(res); got != tt.want || res.Status != tt.status {
				t.Errorf("%s with status %d: checked %v, %+v, %q", got, res.Status, res.Checked, res.Message, res.Body)
			}
			if tt.want == checked || tt.want == loose {
				if whole := string(res.Message.Whole.Of(res.Body)); whole != tt.answer {
					t.Errorf("the message spans %q", whole)
				}
			}
			if got := textOf(t, res); got != tt.answer {
				t.Errorf("got %q", got)
			}
			closeResult(t, res)
			s.Script(mcptest.Minimal)
			works(t, u)
			if n := s.Received(); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
		})
	}
}

func mannerOf(res *mcp.Result) string {
	answers := res.Message.Kind == mcp.KindResult || res.Message.Kind == mcp.KindError
	switch {
	case res.Raw != nil:
		return asBytes
	case res.Checked:
		return checked
	case answers && res.Message.Loose:
		return loose
	}
	return opaque
}

// TestPlainAnswers holds that a plain JSON-RPC server's answer counts whatever its content type says.
func TestPlainAnswers(t *testing.T) {
	for _, contentType := range []string{"application/json", "text/plain", "text/html; charset=utf-8", "application/json-rpc", ""} {
		s := mcptest.NewServer(t, saying(200, contentType, good))
		c := requestOf("getBlock")
		c.Era, c.Message.Method, c.Whole = mcp.EraPlain, mcp.MethodOther, true
		res := mustCall(t, newUpstream(t, s.URL()), c)
		if !res.Checked || string(res.Body) != good {
			t.Errorf("%q: checked %v, %q", contentType, res.Checked, res.Body)
		}
		closeResult(t, res)
	}
}

// TestErrorsInJSONRPC holds that an answer with an error's status is looked into, whatever its type, for a sign of life.
func TestErrorsInJSONRPC(t *testing.T) {
	own := `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`
	for _, tt := range []struct {
		contentType, answer, data string
		alive                     bool
	}{
		{"application/json", own, own, true},
		{"text/plain", own, own, true},
		{"", own, own, true},
		{"text/event-stream", event(own, "event: message"), own, true},
		{"text/event-stream", ": hello\n\n" + event(own) + "retry: 5\n\n", own, true},
		{"application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"x"}}`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"x"}}`, true},
		{"application/json", `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32000,"message":"x"}}`, `{"jsonrpc":"2.0","id":"server-error","error":{"code":-32000,"message":"x"}}`, false},
		{"text/event-stream", event(own) + event(own), event(own) + event(own), false},
		{"text/html", "<html>", "<html>", false},
		{"application/json", `[` + own + `]`, `[` + own + `]`, false},
	} {
		for _, status := range []int{400, 404, 500, 503} {
			for _, method := range []string{"tools/list", "tools/call"} {
				s := mcptest.NewServer(t, saying(status, tt.contentType, tt.answer))
				c := requestOf(method)
				res := mustCall(t, newUpstream(t, s.URL()), c)
				if string(res.Body) != tt.answer || string(res.Scanned()) != tt.data || c.AnsweredBy(res) != tt.alive || res.Checked {
					t.Errorf("%d %q %q: body %q, said %q, alive %v, checked %v", status, tt.contentType, tt.answer,
						res.Body, res.Scanned(), c.AnsweredBy(res), res.Checked)
				}
				closeResult(t, res)
			}
		}
	}
}

// What is no 2xx answer to a request passes as it is, and the connection is used again.
func TestAnswersThatPassUnchanged(t *testing.T) {
	body := onLane(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"ping"}`)
	message := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	for _, tt := range []struct {
		call        *mcp.Call
		status      int
		contentType string
		answer      string
	}{
		{body, 400, "application/json", `{"jsonrpc":"2.0","id":99,"error":{"code":-32022,"message":"x"}}`},
		{body, 401, "text/plain", "who?"},
		{body, 404, "text/plain", "session not found"},
		{body, 429, "", ""},
		{body, 500, "text/html", "<html>"},
		{body, 503, "application/json", "not JSON"},
		{body, 301, "text/plain", "moved"},
		{body, 302, "text/plain", "moved"},
		{body, 303, "text/plain", "moved"},
		{body, 304, "", ""},
		{body, 307, "text/plain", "no location"},
		{onLane(mcp.LaneBatch, batch), 202, "", ""},
		{notification(), 202, "", ""},
		{notification(), 200, "application/json", `whatever`},
		{onLane(mcp.LaneResponse, good), 202, "", ""},
		{onLane(mcp.LaneMessage, message), 202, "text/plain", "Accepted"},
		{onLane(mcp.LaneEnd, ""), 204, "", ""},
		{onLane(mcp.LaneEnd, ""), 405, "", ""},
		{onLane(mcp.LaneStream, ""), 405, "text/plain", "Method Not Allowed"},
		{onLane(mcp.LaneFetch, ""), 200, "application/json", `{"resource":"x"}`},
		{onLane(mcp.LaneFetch, ""), 404, "text/plain", "no"},
	} {
		t.Run(fmt.Sprintf("lane %d, %d", tt.call.Lane, tt.status), func(t *testing.T) {
			s := mcptest.NewServer(t, saying(tt.status, tt.contentType, tt.answer,
				"WWW-Authenticate: Bearer resource_metadata=\"x\"", "Location: ::rubbish", "X-Two: a", "X-Two: b"))
			if tt.status == 307 {
				s.Script(saying(tt.status, tt.contentType, tt.answer))
			}
			u := newUpstream(t, s.URL())
			for range 2 {
				res := mustCall(t, u, tt.call)
				if res.Status != tt.status || string(res.Body) != tt.answer || res.Checked || res.Raw != nil || res.Events != nil {
					t.Errorf("got %d %q, checked %v, raw %v", res.Status, res.Body, res.Checked, res.Raw != nil)
				}
				if got := res.Header.Get("Content-Type"); got != tt.contentType {
					t.Errorf("content type %q", got)
				}
				if got := slices.Collect(res.Header.Values("X-Two")); tt.status != 307 && !slices.Equal(got, []string{"a", "b"}) {
					t.Errorf("X-Two: %q", got)
				}
				closeResult(t, res)
			}
			if _, total := s.Connections(); total != 1 {
				t.Errorf("%d connections for two answers, want 1", total)
			}
			if got := s.Requests()[0].Verb; got != tt.call.Lane.Verb() {
				t.Errorf("verb %s", got)
			}
		})
	}
}

func TestHopByHopFieldsAreTakenOff(t *testing.T) {
	s := mcptest.NewServer(t, saying(200, "application/json", good,
		"Connection: keep-alive, X-Hop", "connection: x-other", "Keep-Alive: timeout=5", "X-Hop: 1", "X-Other: 1",
		"Proxy-Authenticate: Basic", "Upgrade: h2c", "Te: trailers", "X-Stays: 1", "Mcp-Session-Id: abc"))
	res := mustCall(t, newUpstream(t, s.URL()), request())
	defer closeResult(t, res)
	var names []string
	for _, f := range res.Header {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if want := []string{"Content-Length", "Content-Type", "Mcp-Session-Id", "X-Stays"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

func TestEncodedAnswersPassUntouched(t *testing.T) {
	rubbish := "\x1f\x8b not really gzip"
	s := mcptest.NewServer(t, saying(200, "application/json", rubbish, "Content-Encoding: gzip"))
	u := newUpstream(t, s.URL())
	res := mustCall(t, u, request())
	if got := textOf(t, res); res.Checked || res.Raw == nil || got != rubbish || res.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %q, checked %v, %v", got, res.Checked, res.Header)
	}
	closeResult(t, res)

	s.Script(saying(200, "text/event-stream", rubbish, "Content-Encoding: identity, br"))
	res = mustCall(t, u, request())
	if res.Events != nil || textOf(t, res) != rubbish {
		t.Error("an encoded stream did not pass as it is")
	}
	closeResult(t, res)

	s.Script(saying(200, "application/json", good, "Content-Encoding: identity"))
	works(t, u)
	for _, r := range s.Requests() {
		if got := r.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("Accept-Encoding: %q", got)
		}
	}
}

// An answer of the limit's size is checked, one byte more passes as it comes, with what was read first.
func TestLargeAnswers(t *testing.T) {
	const limit = 20_000
	sized := func(n int) string {
		const frame = `{"jsonrpc":"2.0","id":7,"result":""}`
		return `{"jsonrpc":"2.0","id":7,"result":"` + strings.Repeat("x", n-len(frame)) + `"}`
	}
	chunked := func(body string) mcptest.Script {
		return func(x *mcptest.Exchange) {
			x.Write(mcptest.Head(200, "application/json", "Transfer-Encoding: chunked"))
			for rest := body; rest != ""; {
				n := min(len(rest), 3000)
				x.Write(fmt.Sprintf("%x\r\n%s\r\n", n, rest[:n]))
				rest = rest[n:]
			}
			x.Write("0\r\n\r\n")
			x.Whole()
		}
	}
	for _, n := range []int{100, limit - 1, limit, limit + 1, 3 * limit, 100 * limit} {
		for _, framing := range []string{"length", "chunks"} {
			t.Run(fmt.Sprintf("%d bytes, %s", n, framing), func(t *testing.T) {
				answer := sized(n)
				script := saying(200, "application/json", answer)
				if framing == "chunks" {
					script = chunked(answer)
				}
				s := mcptest.NewServer(t, script)
				var value func(string, ...string) float64
				u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.CheckBody, value = limit, metered(o) })
				for range 2 {
					res := mustCall(t, u, request())
					if large := n > limit; res.Checked == large || (res.Raw != nil) != large {
						t.Errorf("checked %v, raw %v", res.Checked, res.Raw != nil)
					}
					if got := textOf(t, res); got != answer {
						t.Errorf("%d bytes came, and they differ", len(got))
					}
					closeResult(t, res)
				}
				if _, total := s.Connections(); total != 1 {
					t.Errorf("%d connections for two answers, want 1", total)
				}
				if got := value("upstream_duration_seconds", "list"); got != 2 {
					t.Errorf("%v durations", got)
				}
			})
		}
	}
}

func TestLargeAnswerThatBreaksOff(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Executing(rawly(mcptest.Head(200, "application/json", "Content-Length: 100000")+strings.Repeat("x", 5000))))
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.CheckBody, value = 1000, metered(o) })
	res := mustCall(t, u, request())
	buf := make([]byte, 1000)
	got := 0
	for {
		n, err := res.Raw.Read(buf)
		got += n
		if err == nil {
			continue
		}
		wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBrokeOff, mcp.SentYes)
		if _, again := res.Raw.Read(buf); again != err {
			t.Errorf("then %v", again)
		}
		break
	}
	if got != 5000 {
		t.Errorf("%d bytes before the break", got)
	}
	closeResult(t, res)
	if v := value("active_connections"); v != 0 {
		t.Errorf("%v active", v)
	}
	if s.Executions() != 1 {
		t.Errorf("executed %d times", s.Executions())
	}
}

func TestLargeAnswerClosedEarly(t *testing.T) {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Write(mcptest.Head(200, "application/json", "Transfer-Encoding: chunked") + "7d0\r\n" + strings.Repeat("x", 2000) + "\r\n")
		x.Hang()
	})
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.CheckBody = 1000 })
	res := mustCall(t, u, request())
	closeResult(t, res)
	s.AwaitOpen(0)
	if _, err := res.Raw.Read(make([]byte, 1)); err == nil {
		t.Error("read after Close")
	}
}

func TestInformationalAnswersAreSwallowed(t *testing.T) {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
		x.Write(mcptest.Head(200, "application/json", fmt.Sprintf("Content-Length: %d", len(good))) + good)
		x.Whole()
	})
	u := newUpstream(t, s.URL())
	works(t, u)
	works(t, u)
	if _, total := s.Connections(); total != 1 {
		t.Errorf("%d connections", total)
	}
}

func TestTimingAndHeader(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	first := mustCall(t, u, request()).Timing
	if first.Connect <= 0 || first.FirstByte <= 0 || first.Upstream < first.Connect+first.FirstByte || first.Queue != 0 {
		t.Errorf("first: %+v", first)
	}
	c := request()
	before := c.Header.Clone()
	again := mustCall(t, u, c).Timing
	if again.Connect != 0 || again.FirstByte <= 0 || again.Upstream < again.FirstByte {
		t.Errorf("again: %+v", again)
	}
	if !slices.Equal(c.Header, before) {
		t.Errorf("the call's header was changed: %v", c.Header)
	}
}

// TestPageForDiscover holds that a page in the place of an answer to server/discover is an error, and to nothing else.
func TestPageForDiscover(t *testing.T) {
	s := mcptest.NewServer(t, saying(200, "text/html", "<html>"))
	u := newUpstream(t, s.URL())
	_, err := u.Call(t.Context(), requestOf("server/discover"))
	wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBadAnswer, mcp.SentYes)
	res := mustCall(t, u, requestOf("tools/list"))
	if got := textOf(t, res); got != "<html>" {
		t.Errorf("got %q", got)
	}
	closeResult(t, res)
}
