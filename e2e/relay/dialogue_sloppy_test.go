// A client and a server that both bend the standard see the same bytes of each other with the daemon between them.

package relay

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// sloppyTurn is one turn of a session between a sloppy client and a sloppy server.
type sloppyTurn struct {
	name   string
	verb   string
	target string // behind the endpoint: a slash, a query
	body   string
	fields []string
	chunks bool // the body goes in chunks
	answer mcptest.Script
}

// sloppyTurns has each sloppy request answered in several sloppy ways, and each sloppy answer given to several requests.
func sloppyTurns() (turns []sloppyTurn) {
	answers, requests := sloppyAnswers(), sloppyRequests()
	turn := func(q sloppyRequest, a sloppyAnswer, m manner) {
		n := len(turns)
		turns = append(turns, sloppyTurn{
			name: q.name + " -> " + a.name, verb: http.MethodPost, body: q.body, chunks: n%3 == 0,
			target: []string{"", "/", "?a=1&a=2", "/?b=%20+x", "?"}[n%5], answer: a.script,
			fields: append([]string{harness.AcceptBoth, harness.JSONContent}, append(m.fields("tools/call"), q.fields...)...),
		})
	}
	for i, q := range requests {
		for j := range 3 {
			turn(q, answers[(5*i+j*37)%len(answers)], manners[(i+j)%len(manners)])
		}
	}
	for i, a := range answers {
		for j, method := range []string{"tools/call", "tools/list"} {
			m := manners[(i+j)%len(manners)]
			turn(sloppyRequest{name: method, body: m.request(fmt.Sprint(i), method)}, a, m)
		}
	}
	return append(turns, sloppyHeads()...)
}

// sloppyHeads are turns whose heads are out of the way.
func sloppyHeads() []sloppyTurn {
	plain := []string{harness.AcceptBoth, harness.JSONContent}
	good := mcptest.Minimal
	call := harness.Request("7", "tools/call")
	return []sloppyTurn{
		{name: "no content type", verb: "POST", body: call, fields: []string{harness.AcceptBoth}, answer: good},
		{name: "another content type", verb: "POST", body: call, fields: []string{harness.AcceptBoth, "Content-Type: text/plain; charset=utf-16"}, answer: good},
		{name: "form data", verb: "POST", body: "a=b&c", fields: []string{"Content-Type: application/x-www-form-urlencoded"}, answer: good},
		{name: "two sessions", verb: "POST", body: call, fields: append(plain, "Mcp-Session-Id: a, b"), answer: good},
		{name: "an odd version", verb: "POST", body: call, fields: append(plain, "MCP-Protocol-Version: 2031-13-45"), answer: good},
		{name: "a version twice", verb: "POST", body: call, fields: append(plain, harness.LegacyVersionField, harness.LegacyVersionField), answer: good},
		{name: "odd names", verb: "POST", body: call, fields: append(plain, "x_y.z: 1", "X-EMPTY:", "X-Latin: caf\xe9"), answer: good},
		{name: "no body", verb: "POST", fields: plain, answer: mcptest.Saying(400, "text/plain", "no body")},
		{name: "GET that is refused", verb: "GET", fields: []string{"Accept: */*"}, answer: mcptest.Saying(405, "text/html", "<p>caf\xe9", "Allow: POST")},
		{name: "GET answered as JSON", verb: "GET", fields: []string{"Accept: text/event-stream", harness.SessionField}, answer: mcptest.Saying(200, harness.JSONType, "{}")},
		{name: "DELETE with a page", verb: "DELETE", fields: []string{harness.SessionField}, answer: mcptest.Saying(404, "text/html", "<p>gone")},
		{name: "DELETE with 200 and JSON", verb: "DELETE", fields: []string{harness.SessionField}, answer: mcptest.Saying(200, harness.JSONType, "{")},
		{name: "odd fields of the answer", verb: "POST", body: call, fields: plain, answer: func(x *mcptest.Exchange) {
			x.Result(mcptest.ToolResult, "x_y: 1", "X-Empty:", "X-Two: a", "X-Two: b", "Set-Cookie: a=b", "Link: <x>; rel=y")
		}},
	}
}

// sloppyTranscript plays the turns against an endpoint and returns a line for what the server got and one for what the
// client got of each turn.
func sloppyTranscript(t *testing.T, s *mcptest.Server, endpoint string, turns []sloppyTurn) []string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	conn := dialSloppy(t, u)
	var lines []string
	for _, turn := range turns {
		asked := s.Received()
		s.Script(turn.answer)
		conn.send(turn)
		got, err := conn.answer(turn.verb)
		request := "nothing"
		if s.Received() == asked+1 {
			request = describeRequest(s.AwaitRequest(asked + 1))
		} else if n := s.Received() - asked; n > 1 {
			request = fmt.Sprint(n, " requests")
		}
		lines = append(lines, turn.name+" >> "+request, turn.name+" << "+got)
		if err != nil {
			lines[len(lines)-1] += " " + err.Error()
			conn.close()
			conn = dialSloppy(t, u)
		}
	}
	conn.close()
	return lines
}

// ofConnection are fields that belong to one connection, and those of which the daemon has its own.
var ofConnection = []string{"Connection", "Keep-Alive", "Content-Length", "Transfer-Encoding", "Trailer", "Host", "Accept-Encoding"}

// describeRequest is all of a request but what belongs to the connection it came on.
func describeRequest(r *mcptest.Request) string {
	fields := http.Header{}
	for _, f := range r.Fields {
		fields.Add(f.Name, f.Value)
	}
	return fmt.Sprintf("%s %s %s %q", r.Verb, r.Target, describeFields(fields, ofConnection), r.Body)
}

// describeFields are the fields of a head, sorted by name, without some.
func describeFields(fields http.Header, without []string) string {
	kept := fields.Clone()
	for _, name := range without {
		kept.Del(name)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		fmt.Fprintf(&b, "%s=%q ", name, kept[name])
	}
	return b.String()
}

// sloppyClient is a client that writes requests by hand, on one connection as long as that lasts.
type sloppyClient struct {
	conn     net.Conn
	br       *bufio.Reader
	path, at string
}

func dialSloppy(t *testing.T, u *url.URL) *sloppyClient {
	t.Helper()
	conn, err := net.Dial("tcp4", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &sloppyClient{conn: conn, br: bufio.NewReader(conn), path: u.Path, at: u.Host}
}

func (c *sloppyClient) close() { _ = c.conn.Close() }

// send writes the request of a turn. What cannot be written is missed when the answer is read.
func (c *sloppyClient) send(turn sloppyTurn) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: gzip, br\r\n", turn.verb, c.path, turn.target, c.at)
	for _, field := range turn.fields {
		b.WriteString(field + "\r\n")
	}
	switch half := len(turn.body) / 2; {
	case turn.verb != http.MethodPost:
		b.WriteString("\r\n")
	case turn.chunks && half > 0:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n" + chunk(turn.body[:half]) + chunk(turn.body[half:]) + "0\r\n\r\n")
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(turn.body), turn.body)
	}
	_ = c.conn.SetDeadline(time.Now().Add(harness.MaxWait))
	_, _ = io.WriteString(c.conn, b.String())
}

// answer reads an answer whole and describes it. The error says that the connection can be used no more.
func (c *sloppyClient) answer(verb string) (string, error) {
	res, err := http.ReadResponse(c.br, &http.Request{Method: verb})
	if err != nil {
		return "no answer", err
	}
	body, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%s %s%q", res.Status, describeFields(res.Header, slices.Concat(dropped, added)), body), err
}

// TestSloppyDialogue: a sloppy client and a sloppy server say the same to each other directly and through the daemon, byte
// for byte, but for the header fields that the daemon adds and those of one connection.
func TestSloppyDialogue(t *testing.T) {
	t.Parallel()
	turns := sloppyTurns()
	s := mcptest.NewServer(t, mcptest.Minimal)
	direct := sloppyTranscript(t, s, s.URL(), turns)
	d := harness.Start(t, harness.FaultConfig(t, s, ""))
	through := sloppyTranscript(t, s, d.URL("/mcp/s"), turns)
	different := 0
	for i := range direct {
		want, got := sameTarget(direct[i]), sameTarget(through[i])
		if want == got {
			continue
		}
		if different++; different <= 25 {
			from := 0
			for from < min(len(want), len(got)) && want[from] == got[from] {
				from++
			}
			t.Errorf("at byte %d\ndirectly: %s\nthrough:  %s", from, harness.Around(want, from), harness.Around(got, from))
		}
	}
	if different > 0 {
		t.Errorf("%d of %d lines differ", different, len(direct))
	}
}

// sameTarget takes out of a request's target what the daemon may change: a trailing slash is the same as none, and so is a
// query of nothing.
func sameTarget(line string) string {
	line = strings.Replace(line, "/mcp/?", "/mcp?", 1)
	line = strings.Replace(line, "/mcp/ ", "/mcp ", 1)
	return strings.Replace(line, "/mcp? ", "/mcp ", 1)
}
