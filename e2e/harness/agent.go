package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Agent is an MCP client that checks nothing and hides nothing. Every agent has connections of its own.
type Agent struct {
	T    *testing.T
	Base string
	HTTP *http.Client
}

// NewAgent makes an agent of an origin, as in `http://127.0.0.1:7300`.
func NewAgent(t *testing.T, base string) *Agent {
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Agent{T: t, Base: base, HTTP: &http.Client{Transport: tr, CheckRedirect: stay}}
}

// Agent makes an agent of the daemon.
func (d *Daemon) Agent(t *testing.T) *Agent { return NewAgent(t, "http://"+d.Addr) }

// Send sends a request and reads its answer whole. Fields are "Name: value" each.
func (a *Agent) Send(verb, path, body string, fields ...string) (Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), MaxWait)
	defer cancel()
	begun := time.Now()
	res, err := a.Open(ctx, verb, path, body, fields...)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	return Reply{res.StatusCode, res.Header, string(got), time.Since(begun)}, err
}

// Open sends a request and returns its answer, of which the head has come.
func (a *Agent) Open(ctx context.Context, verb, path, body string, fields ...string) (*http.Response, error) {
	req, err := NewRequest(ctx, verb, a.Base+path, body, fields...)
	if err != nil {
		return nil, err
	}
	return a.HTTP.Do(req)
}

// NewRequest makes a request as MCP clients send it. Fields are "Name: value" each.
func NewRequest(ctx context.Context, verb, url, body string, fields ...string) (*http.Request, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, verb, url, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	return req, nil
}

// Must is send for what has to be answered.
func (a *Agent) Must(verb, path, body string, fields ...string) Reply {
	a.T.Helper()
	r, err := a.Send(verb, path, body, fields...)
	if err != nil {
		a.T.Fatalf("%s %s: %v", verb, path, err)
	}
	return r
}

// Post posts a message to the upstream s.
func (a *Agent) Post(body string, fields ...string) Reply {
	a.T.Helper()
	return a.Must(http.MethodPost, "/mcp/s", body, fields...)
}

// Works fails the test if an ordinary call to s is not answered.
func (a *Agent) Works() {
	a.T.Helper()
	WorksOn(a.T, a, "s")
}

// WorksOn fails the test if an ordinary call to that upstream is not answered.
func WorksOn(t *testing.T, a *Agent, upstream string) {
	t.Helper()
	r, err := a.Send(http.MethodPost, "/mcp/"+upstream, Request(`"after"`, "tools/call"))
	if err != nil {
		t.Fatalf("the next request: %v", err)
	}
	if r.Status != http.StatusOK || r.RPC(t).Result == nil {
		t.Errorf("the next request: got %d %s", r.Status, r.Body)
	}
}

// Request returns a legacy request with that id, which is JSON.
func Request(id, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":"echo"}}`, id, method)
}

// Notification returns a notification.
func Notification(method string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","method":%q}`, method) }

// Modern returns a 2026-07-28 request with that id, and the header fields that belong to it.
func Modern(id, method string) (body string, fields []string) {
	body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":"echo","_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method)
	fields = []string{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}
	if method == "tools/call" {
		fields = append(fields, "Mcp-Name: echo")
	}
	return body, fields
}
