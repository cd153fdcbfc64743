package mcptest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client returns a client with a pool of its own, which is empty again when the test ends.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: mcptest.WaitTimeout}
}

const call = `{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"echo"}}`

func post(t *testing.T, c *http.Client, url, body string) (*http.Response, string, error) {
	t.Helper()
	res, err := c.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	return res, string(got), err
}

func TestRequestIsRecordedByteForByte(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw := "POST /mcp?x=1 HTTP/1.1\r\nHost: a\r\nX-b:  two \r\nx-A: one\r\nContent-Length: 46\r\n\r\n" +
		`{"jsonrpc":"2.0","id":"a\u0062","method":"m"} `
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	r := s.AwaitRequest(1)
	if string(r.Raw) != raw {
		t.Errorf("Raw:\n got %q\nwant %q", r.Raw, raw)
	}
	if r.Verb != "POST" || r.Target != "/mcp?x=1" || r.ID() != `"a\u0062"` || r.Method() != "m" || r.Conn != 1 {
		t.Errorf("got %s %s id %s method %s on %d", r.Verb, r.Target, r.ID(), r.Method(), r.Conn)
	}
	want := []mcptest.Field{{Name: "Host", Value: "a"}, {Name: "X-b", Value: "two"}, {Name: "x-A", Value: "one"}, {Name: "Content-Length", Value: "46"}}
	if len(r.Fields) != len(want) {
		t.Fatalf("fields %v", r.Fields)
	}
	for i := range want {
		if r.Fields[i] != want[i] {
			t.Errorf("field %d: got %v, want %v", i, r.Fields[i], want[i])
		}
	}
	if !r.Has("x-b") || r.Has("X-C") || r.Get("X-B") != "two" || r.Get("X-C") != "" {
		t.Error("Has or Get goes by case or makes fields up")
	}
}

func TestChunkedRequestBodyIsJoined(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw := "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{\"id\"\r\n4\r\n: 7}\r\n0\r\n\r\n"
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	if r := s.AwaitRequest(1); string(r.Body) != `{"id": 7}` || string(r.Raw) != raw {
		t.Errorf("body %q, raw %q", r.Body, r.Raw)
	}
}

func TestMinimalAnswersAndKeepsTheConnection(t *testing.T) {
	s, c := mcptest.NewServer(t, mcptest.Minimal), client(t)
	for range 3 {
		res, body, err := post(t, c, s.URL(), call)
		want := `{"jsonrpc":"2.0","id":9007199254740993,"result":` + mcptest.ToolResult + `}`
		if err != nil || res.StatusCode != http.StatusOK || body != want {
			t.Fatalf("got %v %q, %v", res, body, err)
		}
	}
	if res, body, err := post(t, c, s.URL(), `{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil || res.StatusCode != http.StatusAccepted || body != "" {
		t.Fatalf("notification: got %v %q, %v", res, body, err)
	}
	if open, total := s.Connections(); open != 1 || total != 1 || s.Executions() != 3 || s.Received() != 4 || len(s.Requests()) != 4 {
		t.Errorf("%d open, %d in all, %d executions, %d received", open, total, s.Executions(), s.Received())
	}
}

func TestOncePlaysInOrderBeforeTheStandingScript(t *testing.T) {
	s, c := mcptest.NewServer(t, mcptest.Saying(200, "text/plain", "standing")), client(t)
	s.Once(mcptest.Saying(429, "text/plain", "first", "Retry-After: 3"), mcptest.Saying(500, "text/plain", "second"))
	for i, want := range []string{"first", "second", "standing", "standing"} {
		res, body, err := post(t, c, s.URL(), call)
		if err != nil || body != want {
			t.Fatalf("answer %d: got %q, %v, want %q", i, body, err, want)
		}
		if i == 0 && (res.StatusCode != 429 || res.Header.Get("Retry-After") != "3") {
			t.Errorf("got %d %v", res.StatusCode, res.Header)
		}
	}
	s.Script(mcptest.Saying(200, "text/plain", "new"))
	if _, body, _ := post(t, c, s.URL(), call); body != "new" {
		t.Errorf("got %q after Script", body)
	}
}

func TestAScriptWithoutAnAnswerIsA500(t *testing.T) {
	s := mcptest.NewServer(t, func(*mcptest.Exchange) {})
	if res, _, err := post(t, client(t), s.URL(), call); err != nil || res.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestEventsComeOneByOne(t *testing.T) {
	gates := []*mcptest.Gate{mcptest.NewGate(), mcptest.NewGate()}
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		st := x.Stream("Mcp-Session-Id: s1")
		x.Wait(gates[0].Opened())
		st.Event("one\ntwo", "id: 1", "event: message")
		x.Wait(gates[1].Opened())
		st.Comment("still here")
		st.Answer("{}")
		st.End()
	})
	c := client(t)
	req, err := http.NewRequest(http.MethodPost, s.URL(), strings.NewReader(call))
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req) // returns: the head goes out at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("Mcp-Session-Id") != "s1" || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("head %v", res.Header)
	}
	br := bufio.NewReader(res.Body)
	gates[0].Open()
	expect(t, br, "id: 1\nevent: message\ndata: one\ndata: two\n\n")
	gates[1].Open()
	expect(t, br, ": still here\n\n"+`data: {"jsonrpc":"2.0","id":9007199254740993,"result":{}}`+"\n\n")
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the clean end", err)
	}
}

func expect(t *testing.T, br *bufio.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestBarrierHoldsUntilAllHaveCome(t *testing.T) {
	const n = 5
	b := mcptest.NewBarrier(n)
	s, c := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Wait(b.Arrive())
		x.Result("{}")
	}), client(t)
	done := make(chan error, n)
	ask := func() {
		_, _, err := post(t, c, s.URL(), call)
		done <- err
	}
	for range n - 1 {
		go ask()
	}
	s.AwaitRequest(n - 1)
	select {
	case <-done:
		t.Fatal("an answer came before the last comer")
	default:
	}
	go ask()
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestFaults(t *testing.T) {
	// net/http calls any end within a head an unexpected EOF.
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	cut := func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
	end := func(err error) bool { return errors.Is(err, io.EOF) }
	whole := func(err error) bool { return err == nil }
	for _, f := range []struct {
		name   string
		script mcptest.Script
		want   func(error) bool
		body   string
	}{
		{"reset before head", mcptest.ResetBeforeHead, reset, ""},
		{"close before head", mcptest.CloseBeforeHead, end, ""},
		{"reset in head", mcptest.ResetInHead, cut, ""},
		{"reset after head", mcptest.ResetAfterHead, reset, ""},
		{"reset in body", mcptest.ResetInBody, reset, `{"jsonrpc":"2.0","id":9007199254740993,"r`},
		{"cut length", mcptest.CutLength, cut, `{"jsonrpc":"2.0","id":9007199254740993,"r`},
		{"cut chunks", mcptest.CutChunks, cut, `{"jsonrpc`},
		{"reset after stream head", mcptest.ResetAfterStreamHead, reset, ""},
		{"reset in event", mcptest.ResetInEvent, reset, `data: {"jsonrpc":"2.0","method":"notifications/progress"`},
		{"end before answer", mcptest.EndBeforeAnswer, whole, `data: {"jsonrpc":"2.0","method":"notifications/progress"`},
		{"trickle", mcptest.Trickling(10 * time.Microsecond), whole, `{"jsonrpc":"2.0","id":9007199254740993,"result":` + mcptest.ToolResult + `}`},
	} {
		t.Run(f.name, func(t *testing.T) {
			s, c := mcptest.NewServer(t, mcptest.Minimal), client(t)
			s.Once(mcptest.Executing(f.script))
			_, body, err := post(t, c, s.URL(), call)
			if !f.want(err) || !strings.HasPrefix(body, f.body) {
				t.Errorf("got %q, %v", body, err)
			}
			if _, _, err := post(t, c, s.URL(), call); err != nil {
				t.Errorf("the next request: %v", err)
			}
			if s.Executions() != 2 || s.Received() != 2 {
				t.Errorf("%d executions of %d requests", s.Executions(), s.Received())
			}
		})
	}
}
