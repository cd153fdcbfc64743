package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// An answer that nobody shares is held up to this size and this long before it streams (docs/design.md, "How answers are held").
const (
	heldSize = 64 << 10
	heldTime = time.Second
)

// largeResult is a tools/call answer of about that size.
func largeResult(id string, size int) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":{"content":[{"type":"text","text":"` + strings.Repeat("0123456789abcdef", size/16) + `"}]}}`
}

// halves writes an answer in two parts, the second one when the gate is open. It ends by finish, if that is not nil, in place
// of the second part.
func halves(head, first, second string, gate *mcptest.Gate, finish func(*mcptest.Exchange)) mcptest.Script {
	return func(x *mcptest.Exchange) {
		x.Write(head + first)
		if !x.Wait(gate.Opened()) {
			return
		}
		if finish != nil {
			finish(x)
			return
		}
		x.Write(second)
		if !strings.Contains(head, "Connection: close") {
			x.Whole()
		}
	}
}

// framings write a body in two parts under a head.
var framings = map[string]func(status int, kind, first, second string) (head, one, two string){
	"length": func(status int, kind, first, second string) (string, string, string) {
		return mcptest.Head(status, kind, fmt.Sprint("Content-Length: ", len(first)+len(second))), first, second
	},
	"chunks": func(status int, kind, first, second string) (string, string, string) {
		return mcptest.Head(status, kind, "Transfer-Encoding: chunked"), chunk(first), chunk(second) + "0\r\n\r\n"
	},
	"the connection's end": func(status int, kind, first, second string) (string, string, string) {
		return mcptest.Head(status, kind, "Connection: close"), first, second
	},
}

// begun is an answer of which the head has come.
type begun struct {
	t    *testing.T
	res  *http.Response
	took time.Duration // until the head
}

// begin posts a request and waits for the head of its answer.
func (a *agent) begin(body string, fields ...string) *begun {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience/6)
	a.t.Cleanup(cancel)
	start := time.Now()
	res, err := a.open(ctx, http.MethodPost, "/mcp/s", body, fields...)
	if err != nil {
		a.t.Fatalf("no head of an answer: %v", err)
	}
	a.t.Cleanup(func() { _ = res.Body.Close() })
	return &begun{a.t, res, time.Since(start)}
}

// read reads so many bytes of the body.
func (b *begun) read(n int) string {
	b.t.Helper()
	buf := make([]byte, n)
	if n, err := io.ReadFull(b.res.Body, buf); err != nil {
		b.t.Fatalf("%d of %d bytes came before the rest was sent: %v", n, len(buf), err)
	}
	return string(buf)
}

// rest reads the rest.
func (b *begun) rest() (string, error) {
	rest, err := io.ReadAll(b.res.Body)
	return string(rest), err
}

// TestLargeAnswersStream: the first bytes of a large answer reach the agent before the server has sent the last.
func TestLargeAnswersStream(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), bare))
	for _, size := range []int{100_000, 1_000_000} {
		for framing, frame := range framings {
			for _, status := range []int{200, 400, 500} {
				t.Run(fmt.Sprintf("%d/%s/%d", size, framing, status), func(t *testing.T) {
					a, gate := d.agent(t), mcptest.NewGate()
					defer gate.Open()
					body := largeResult(`"x"`, size)
					part := size * 9 / 10
					head, first, second := frame(status, jsonType, body[:part], body[part:])
					s.Once(halves(head, first, second, gate, nil))
					got := a.begin(request(`"x"`, "tools/call"))
					text := got.read(heldSize / 2)
					gate.Open()
					rest, err := got.rest()
					if err != nil || text+rest != body || got.res.StatusCode != status || got.res.Header.Get("Content-Type") != jsonType {
						t.Errorf("HTTP %d, %d bytes of %d, %v", got.res.StatusCode, len(text)+len(rest), len(body), err)
					}
					a.works()
				})
			}
		}
	}
}

// TestSlowAnswersStream: an answer that stops for more than a second is passed on from there; a list, which may be shared,
// is not.
func TestSlowAnswersStream(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), bare))
	for _, c := range []struct {
		name, method, kind string
		status, first      int
	}{
		{"after the head", "tools/call", jsonType, 200, 0},
		{"in mid-body", "tools/call", jsonType, 200, 20},
		{"an unknown method", "no/such", jsonType, 200, 20},
		{"an error's page", "tools/call", "text/html", 500, 20},
		{"an error of a list", "tools/list", jsonType, 404, 20},
		{"an error as a stream", "tools/call", sseType, 400, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, gate := d.agent(t), mcptest.NewGate()
			defer gate.Open()
			body := `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
			head, first, second := framings["length"](c.status, c.kind, body[:c.first], body[c.first:])
			s.Once(halves(head, first, second, gate, nil))
			got := a.begin(request("1", c.method))
			text := got.read(c.first)
			if got.took < heldTime/2 || got.took > heldTime+soon {
				t.Errorf("the head came after %v, want about %v", got.took, heldTime)
			}
			gate.Open()
			if rest, err := got.rest(); err != nil || text+rest != body || got.res.StatusCode != c.status {
				t.Errorf("HTTP %d, %q, %v", got.res.StatusCode, text+rest, err)
			}
			a.works()
		})
	}
	t.Run("a list", func(t *testing.T) {
		a, gate := d.agent(t), mcptest.NewGate()
		body := `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`
		head, first, second := framings["length"](200, jsonType, body[:20], body[20:])
		s.Once(halves(head, first, second, gate, nil))
		timer := time.AfterFunc(heldTime*3/2, gate.Open)
		defer timer.Stop()
		if r := a.post(request("1", "tools/list")); r.body != body || r.took < heldTime*3/2 {
			t.Errorf("%q after %v", r.body, r.took)
		}
	})
}

// TestAnswersThatBreakOff: an answer that broke off is never passed on as whole. If nothing has left yet it is an error of
// the daemon's, else the agent's connection is aborted.
func TestAnswersThatBreakOff(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), bare))
	breaks := map[string]func(*mcptest.Exchange){"reset": (*mcptest.Exchange).Reset, "cut": (*mcptest.Exchange).Close}
	for how, finish := range breaks {
		for _, framing := range []string{"length", "chunks"} { // at the connection's end a cut is no break-off
			for _, c := range []struct {
				name, method string
				status, size int
				first        int
				left         bool // some of it has left
			}{
				{"small", "tools/call", 200, 1000, 500, false},
				{"small, an error", "tools/call", 500, 1000, 500, false},
				{"slow", "tools/call", 200, 1000, 500, true},
				{"slow, an error", "tools/list", 404, 1000, 500, true},
				{"large", "tools/call", 200, 200_000, 150_000, true},
				{"large, an error", "tools/call", 503, 200_000, 150_000, true},
				{"a list of 1 MB", "tools/list", 200, 1_000_000, 900_000, false},
				{"resources of 1 MB", "resources/list", 200, 1_000_000, 900_000, false},
			} {
				t.Run(c.name+"/"+framing+"/"+how, func(t *testing.T) {
					a, gate := d.agent(t), mcptest.NewGate()
					defer gate.Open()
					body := largeResult("1", c.size)
					head, first, second := framings[framing](c.status, jsonType, body[:c.first], body[c.first:])
					s.Once(halves(head, first, second, gate, finish))
					if !c.left {
						gate.Open()
						checkFailure(t, a.post(request("1", c.method)).rpc(t), "1", "s", 1502, "broke_off", "yes unknown")
						a.works()
						return
					}
					got := a.begin(request("1", c.method))
					text := got.read(min(c.first, heldSize/2))
					gate.Open()
					if rest, err := got.rest(); err == nil {
						t.Errorf("%d of %d bytes were a whole answer", len(text)+len(rest), len(body))
					}
					a.works()
				})
			}
		}
	}
}

// TestStalledAnswersAreAborted: what has left and never ends is given up after timeouts.call, by an abort.
func TestStalledAnswersAreAborted(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	for name, script := range map[string]mcptest.Script{
		"nothing done": mcptest.Stalling, "answer lost": mcptest.Executing(mcptest.Stalling),
		"a page": func(x *mcptest.Exchange) {
			x.Write(mcptest.Head(500, "text/html", "Content-Length: 100") + "<p>")
			x.Hang()
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.agent(t)
			s.Once(script)
			got, start := a.begin(request("1", "tools/call")), time.Now()
			text, err := got.rest()
			if took := got.took + time.Since(start); err == nil || took > callTimeout+soon {
				t.Errorf("HTTP %d, %q for a whole answer, after %v", got.res.StatusCode, text, took)
			}
			a.works()
		})
	}
}

// TestListsAreHeldWhole: 1 MB of what may be shared leaves at once, with its length.
func TestListsAreHeldWhole(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), bare))
	a := d.agent(t)
	body := largeResult("1", 1_000_000)
	for framing, frame := range framings {
		gate := mcptest.NewGate()
		gate.Open()
		head, first, second := frame(200, jsonType, body[:900_000], body[900_000:])
		s.Once(halves(head, first, second, gate, nil))
		r := a.post(request("1", "tools/list"))
		if r.status != 200 || r.body != body || r.header.Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("%s: HTTP %d, %d bytes of %d, length %q", framing, r.status, len(r.body), len(body), r.header.Get("Content-Length"))
		}
	}
}

// TestLargeEventsPassInPieces: an event of 1 MB reaches the agent while it still comes, and so does what stands before and
// behind it.
func TestLargeEventsPassInPieces(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), bare))
	body, fields := modern("1", "tools/call")
	for name, c := range map[string]struct {
		body   string
		fields []string
	}{"legacy": {request("1", "tools/call"), nil}, "modern": {body, fields}} {
		for _, size := range []int{100_000, 1_000_000} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				a, gate := d.agent(t), mcptest.NewGate()
				defer gate.Open()
				event := "event: message\ndata: " + largeResult("1", size) + "\n\n"
				part := size * 9 / 10
				s.Once(func(x *mcptest.Exchange) {
					st := x.Stream()
					st.Event(progress)
					st.Raw(event[:part])
					if x.Wait(gate.Opened()) {
						st.Raw(event[part:])
						st.End()
					}
				})
				got := a.begin(c.body, c.fields...)
				text := got.read(len(mcptest.EventText(progress)) + heldSize/2)
				gate.Open()
				rest, err := got.rest()
				if err != nil || text+rest != mcptest.EventText(progress)+event {
					t.Errorf("%d bytes, %v", len(text)+len(rest), err)
				}
				a.works()
			})
		}
	}
	t.Run("broken off", func(t *testing.T) {
		a, gate := d.agent(t), mcptest.NewGate()
		event := mcptest.EventText(largeResult("1", 500_000))
		s.Once(func(x *mcptest.Exchange) {
			x.Stream().Raw(event[:400_000])
			if x.Wait(gate.Opened()) {
				x.Reset()
			}
		})
		got := a.begin(request("1", "tools/call"))
		text := got.read(heldSize / 2)
		gate.Open()
		rest, err := got.rest()
		if _, clean := strings.CutSuffix(text+rest, "\n\n"); clean && err == nil && !strings.Contains(rest, "broke_off") {
			t.Errorf("%d bytes of an event passed for a whole one", len(text)+len(rest))
		}
		a.works()
	})
}

// TestErrorBodiesPassUnchanged: every status with whatever body is the server's word.
func TestErrorBodiesPassUnchanged(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	bodies := []struct{ kind, body string }{
		{jsonType, `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"caf` + "\xe9" + `"}}`},
		{jsonType, ` {"jsonrpc":"2.0","id":"other","error":{"code":-32601,"message":"\ud800"}}`},
		{jsonType, `{"jsonrpc":"2.0","id":7,"result":{},"error":null}`},
		{jsonType, `[{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}]`},
		{jsonType, `{"error":"invalid_request"}`},
		{jsonType, ""},
		{"text/plain", "no\n"},
		{"text/html; charset=latin-1", "<p>caf\xe9" + strings.Repeat("<br>", 30_000)},
		{sseType, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32000,\"message\":\"Bad Request\"}}\n\n"},
		{sseType, ": hello\n\ndata: rubbish\n\ndata: more\n\n"},
		{sseType, "data: without an end"},
		{sseType, ""},
		{"", "bytes\x00\xff"},
		{"", ""},
	}
	methods := []string{"tools/call", "tools/list", "resources/read", "no/such"}
	for status := 400; status <= 504; status++ {
		if http.StatusText(status) == "" {
			continue
		}
		for i, c := range bodies {
			method, m := methods[(status+i)%len(methods)], manners[i%2*3] // without a session, and modern
			s.Script(mcptest.Saying(status, c.kind, c.body, "X-Odd: 1", "Retry-After: 9"))
			asked := s.Received()
			r := a.post(m.request("7", method), m.fields(method)...)
			if r.status != status || r.body != c.body || !sameType(r, c.kind) || r.header.Get("X-Odd") != "1" || r.header.Get("Retry-After") != "9" {
				t.Errorf("%s %d %q %.60q: got %d %v %.200q", method, status, c.kind, c.body, r.status, r.header, r.body)
			}
			if n := s.Received() - asked; n != 1 {
				t.Errorf("%s %d: the server was asked %d times", method, status, n)
			}
		}
	}
}
