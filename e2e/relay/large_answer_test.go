// How answers are held and when they stream; what is large, slow or broken off.

package relay

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
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

// beginAnswer posts a request and waits for the head of its answer.
func beginAnswer(a *harness.Agent, body string, fields ...string) *begun {
	a.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.MaxWait) // later than what the daemon ends
	a.T.Cleanup(cancel)
	start := time.Now()
	res, err := a.Open(ctx, http.MethodPost, "/mcp/s", body, fields...)
	if err != nil {
		a.T.Fatalf("no head of an answer: %v", err)
	}
	a.T.Cleanup(func() { _ = res.Body.Close() })
	return &begun{a.T, res, time.Since(start)}
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
	d := harness.Start(t, harness.OneUpstream(s.URL(), harness.Unprotected))
	for _, size := range []int{100_000, 1_000_000} {
		for framing, frame := range framings {
			for _, status := range []int{200, 400, 500} {
				t.Run(fmt.Sprintf("%d/%s/%d", size, framing, status), func(t *testing.T) {
					a, gate := d.Agent(t), mcptest.NewGate()
					defer gate.Open()
					body := largeResult(`"x"`, size)
					part := size * 9 / 10
					head, first, second := frame(status, harness.JSONType, body[:part], body[part:])
					s.Once(halves(head, first, second, gate, nil))
					got := beginAnswer(a, harness.Request(`"x"`, "tools/call"))
					text := got.read(heldSize / 2)
					gate.Open()
					rest, err := got.rest()
					if err != nil || text+rest != body || got.res.StatusCode != status || got.res.Header.Get("Content-Type") != harness.JSONType {
						t.Errorf("HTTP %d, %d bytes of %d, %v", got.res.StatusCode, len(text)+len(rest), len(body), err)
					}
					a.Works()
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
	d := harness.Start(t, harness.OneUpstream(s.URL(), harness.Unprotected))
	for _, c := range []struct {
		name, method, kind string
		status, first      int
	}{
		{"after the head", "tools/call", harness.JSONType, 200, 0},
		{"in mid-body", "tools/call", harness.JSONType, 200, 20},
		{"an unknown method", "no/such", harness.JSONType, 200, 20},
		{"an error's page", "tools/call", "text/html", 500, 20},
		{"an error of a list", "tools/list", harness.JSONType, 404, 20},
		{"an error as a stream", "tools/call", harness.SSEType, 400, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, gate := d.Agent(t), mcptest.NewGate()
			defer gate.Open()
			body := `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
			head, first, second := framings["length"](c.status, c.kind, body[:c.first], body[c.first:])
			s.Once(halves(head, first, second, gate, nil))
			got := beginAnswer(a, harness.Request("1", c.method))
			text := got.read(c.first)
			if got.took < heldTime/2 || got.took > heldTime+harness.Soon {
				t.Errorf("the head came after %v, want about %v", got.took, heldTime)
			}
			gate.Open()
			if rest, err := got.rest(); err != nil || text+rest != body || got.res.StatusCode != c.status {
				t.Errorf("HTTP %d, %q, %v", got.res.StatusCode, text+rest, err)
			}
			a.Works()
		})
	}
	t.Run("a list", func(t *testing.T) {
		a, gate := d.Agent(t), mcptest.NewGate()
		body := `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`
		head, first, second := framings["length"](200, harness.JSONType, body[:20], body[20:])
		s.Once(halves(head, first, second, gate, nil))
		timer := time.AfterFunc(heldTime*3/2, gate.Open)
		defer timer.Stop()
		if r := a.Post(harness.Request("1", "tools/list")); r.Body != body || r.Took < heldTime*3/2 {
			t.Errorf("%q after %v", r.Body, r.Took)
		}
	})
}

// TestAnswersThatBreakOff: an answer that broke off is never passed on as whole. If nothing has left yet it is an error of
// the daemon's, else the agent's connection is aborted.
func TestAnswersThatBreakOff(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), harness.Unprotected))
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
					a, gate := d.Agent(t), mcptest.NewGate()
					defer gate.Open()
					body := largeResult("1", c.size)
					head, first, second := framings[framing](c.status, harness.JSONType, body[:c.first], body[c.first:])
					s.Once(halves(head, first, second, gate, finish))
					if !c.left {
						gate.Open()
						harness.CheckFailure(t, a.Post(harness.Request("1", c.method)).RPC(t), "1", "s", 1502, "broke_off", "yes unknown")
						a.Works()
						return
					}
					got := beginAnswer(a, harness.Request("1", c.method))
					text := got.read(min(c.first, heldSize/2))
					gate.Open()
					if rest, err := got.rest(); err == nil {
						t.Errorf("%d of %d bytes were a whole answer", len(text)+len(rest), len(body))
					}
					a.Works()
				})
			}
		}
	}
}

// TestStalledAnswersAreAborted: what has left and never ends is given up after timeouts.call, by an abort.
func TestStalledAnswersAreAborted(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	for name, script := range map[string]mcptest.Script{
		"nothing done": mcptest.Stalling, "answer lost": mcptest.Executing(mcptest.Stalling),
		"a page": func(x *mcptest.Exchange) {
			x.Write(mcptest.Head(500, "text/html", "Content-Length: 100") + "<p>")
			x.Hang()
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := d.Agent(t)
			s.Once(script)
			got, start := beginAnswer(a, harness.Request("1", "tools/call")), time.Now()
			text, err := got.rest()
			if took := got.took + time.Since(start); err == nil || took > harness.CallTimeout+harness.Soon {
				t.Errorf("HTTP %d, %q for a whole answer, after %v", got.res.StatusCode, text, took)
			}
			a.Works()
		})
	}
}

// TestListsAreHeldWhole: 1 MB of what may be shared leaves at once, with its length.
func TestListsAreHeldWhole(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), harness.Unprotected))
	a := d.Agent(t)
	body := largeResult("1", 1_000_000)
	for framing, frame := range framings {
		gate := mcptest.NewGate()
		gate.Open()
		head, first, second := frame(200, harness.JSONType, body[:900_000], body[900_000:])
		s.Once(halves(head, first, second, gate, nil))
		r := a.Post(harness.Request("1", "tools/list"))
		if r.Status != 200 || r.Body != body || r.Header.Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("%s: HTTP %d, %d bytes of %d, length %q", framing, r.Status, len(r.Body), len(body), r.Header.Get("Content-Length"))
		}
	}
}

// TestLargeEventsPassInPieces: an event of 1 MB reaches the agent while it still comes, and so does what stands before and
// behind it.
func TestLargeEventsPassInPieces(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), harness.Unprotected))
	body, fields := harness.Modern("1", "tools/call")
	for name, c := range map[string]struct {
		body   string
		fields []string
	}{"legacy": {harness.Request("1", "tools/call"), nil}, "modern": {body, fields}} {
		for _, size := range []int{100_000, 1_000_000} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				a, gate := d.Agent(t), mcptest.NewGate()
				defer gate.Open()
				event := "event: message\ndata: " + largeResult("1", size) + "\n\n"
				part := size * 9 / 10
				s.Once(func(x *mcptest.Exchange) {
					st := x.Stream()
					st.Event(harness.ProgressMessage)
					st.Raw(event[:part])
					if x.Wait(gate.Opened()) {
						st.Raw(event[part:])
						st.End()
					}
				})
				got := beginAnswer(a, c.body, c.fields...)
				text := got.read(len(mcptest.EventText(harness.ProgressMessage)) + heldSize/2)
				gate.Open()
				rest, err := got.rest()
				if err != nil || text+rest != mcptest.EventText(harness.ProgressMessage)+event {
					t.Errorf("%d bytes, %v", len(text)+len(rest), err)
				}
				a.Works()
			})
		}
	}
	t.Run("broken off", func(t *testing.T) {
		a, gate := d.Agent(t), mcptest.NewGate()
		event := mcptest.EventText(largeResult("1", 500_000))
		s.Once(func(x *mcptest.Exchange) {
			x.Stream().Raw(event[:400_000])
			if x.Wait(gate.Opened()) {
				x.Reset()
			}
		})
		got := beginAnswer(a, harness.Request("1", "tools/call"))
		text := got.read(heldSize / 2)
		gate.Open()
		rest, err := got.rest()
		if _, clean := strings.CutSuffix(text+rest, "\n\n"); clean && err == nil && !strings.Contains(rest, "broke_off") {
			t.Errorf("%d bytes of an event passed for a whole one", len(text)+len(rest))
		}
		a.Works()
	})
}

// TestErrorBodiesPassUnchanged: every status with whatever body is the server's word.
func TestErrorBodiesPassUnchanged(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	bodies := []struct{ kind, body string }{
		{harness.JSONType, `{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"caf` + "\xe9" + `"}}`},
		{harness.JSONType, ` {"jsonrpc":"2.0","id":"other","error":{"code":-32601,"message":"\ud800"}}`},
		{harness.JSONType, `{"jsonrpc":"2.0","id":7,"result":{},"error":null}`},
		{harness.JSONType, `[{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"m"}}]`},
		{harness.JSONType, `{"error":"invalid_request"}`},
		{harness.JSONType, ""},
		{"text/plain", "no\n"},
		{"text/html; charset=latin-1", "<p>caf\xe9" + strings.Repeat("<br>", 30_000)},
		{harness.SSEType, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32000,\"message\":\"Bad Request\"}}\n\n"},
		{harness.SSEType, ": hello\n\ndata: rubbish\n\ndata: more\n\n"},
		{harness.SSEType, "data: without an end"},
		{harness.SSEType, ""},
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
			r := a.Post(m.request("7", method), m.fields(method)...)
			if r.Status != status || r.Body != c.body || !harness.SameType(r, c.kind) || r.Header.Get("X-Odd") != "1" || r.Header.Get("Retry-After") != "9" {
				t.Errorf("%s %d %q %.60q: got %d %v %.200q", method, status, c.kind, c.body, r.Status, r.Header, r.Body)
			}
			if n := s.Received() - asked; n != 1 {
				t.Errorf("%s %d: the server was asked %d times", method, status, n)
			}
		}
	}
}
