//lint:file-ignore SA1019 log messages and sampling are deprecated, and in use.

package streamable_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/internal/mcptest"
)

// TestOfficialClient drives a legacy server of the official SDK over stdio by the official client over HTTP, which tries
// 2026-07-28 first: a session, lists, calls, progress, log messages and requests of the server's.
func TestOfficialClient(t *testing.T) {
	r := newRig(t, options{child: "legacy"})
	var progress atomic.Int32
	logged := make(chan any, 8)
	s := connect(t, r.serve(t), &sdk.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { progress.Add(1) },
		LoggingMessageHandler:       func(_ context.Context, p *sdk.LoggingMessageRequest) { logged <- p.Params.Data },
		CreateMessageHandler: func(_ context.Context, p *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) {
			return &sdk.CreateMessageResult{Role: "assistant", Model: "m", Content: &sdk.TextContent{Text: "sampled"}}, nil
		},
	})
	checkCalls(t, s, &progress)
	if err := s.SetLoggingLevel(t.Context(), &sdk.SetLoggingLevelParams{Level: "debug"}); err != nil {
		t.Error(err)
	}
	if _, err := tool(t, s, "log", echoIn{Text: "line"}); err != nil {
		t.Errorf("log: %v", err)
	}
	select {
	case got := <-logged:
		if got != "line" {
			t.Errorf("logged %v", got)
		}
	case <-time.After(mcptest.WaitTimeout):
		t.Error("the log message did not come")
	}
	if got, err := tool(t, s, "sample", echoIn{Text: "?"}); err != nil || got != "sampled" {
		t.Errorf("sample: %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if n := r.store.Len(); n != 0 {
		t.Errorf("%d sessions after the DELETE", n)
	}
}

// TestOfficialClientModern is the same with a server that speaks 2026-07-28: one process for two clients.
func TestOfficialClientModern(t *testing.T) {
	r := newRig(t, options{child: "both"})
	url := r.serve(t)
	var progress atomic.Int32
	o := &sdk.ClientOptions{ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { progress.Add(1) }}
	one, two := connect(t, url, o), connect(t, url, nil)
	checkCalls(t, one, &progress)
	for i, s := range []*sdk.ClientSession{one, two} {
		if got, err := tool(t, s, "count", echoIn{}); err != nil || got != []string{"1", "2"}[i] {
			t.Errorf("count: %q, %v", got, err)
		}
	}
	if n := r.pool.Status().Processes; n != 1 {
		t.Errorf("%d processes", n)
	}
	for _, s := range []*sdk.ClientSession{one, two} {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// checkCalls makes the calls that both eras have.
func checkCalls(t *testing.T, s *sdk.ClientSession, progress *atomic.Int32) {
	t.Helper()
	tools, err := s.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 6 {
		t.Fatalf("tools/list: %v, %v", tools, err)
	}
	if got, err := tool(t, s, "echo", echoIn{Text: "h\u00e9llo\n"}); err != nil || got != "h\u00e9llo\n" {
		t.Errorf("echo: %q, %v", got, err)
	}
	params := &sdk.CallToolParams{Name: "progress", Arguments: echoIn{Text: "x", Times: 3}}
	params.SetProgressToken("mine")
	if _, err := s.CallTool(t.Context(), params); err != nil {
		t.Errorf("progress: %v", err)
	}
	eventually(t, "three times progress", func() bool { return progress.Load() == 3 }) // the client has its handlers run beside the call
}

// TestUnreadableBodies holds the shape of the daemon's own errors for what cannot be a line: by the status, with the id that can
// be read, else null.
func TestUnreadableBodies(t *testing.T) {
	url := newRig(t, options{child: "legacy"}).serve(t)
	for body, want := range map[string]string{
		`{"jsonrpc":"2.0","id":7,"method":1}`: `{"jsonrpc":"2.0","id":7,"error":{"code":-32600,`,
		`{"jsonrpc":`:                         `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,`,
		`[1]`:                                 "the Mcp-Session-Id header is missing",
		`{"jsonrpc":"2.0","id":7,"method":"other"}`: "the Mcp-Session-Id header is missing",
	} {
		res, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || res.Body.Close() != nil || res.StatusCode != 400 || !strings.Contains(string(got), want) {
			t.Errorf("%s: %d %s, %v", body, res.StatusCode, got, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestRPC holds that an array of plain calls is answered by a server of either era.
func TestRPC(t *testing.T) {
	for _, child := range []string{"legacy", "both"} {
		url := strings.Replace(newRig(t, options{child: child}).serve(t), "/mcp/", "/rpc/", 1)
		body := `[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}]`
		res, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil || res.Body.Close() != nil || res.StatusCode != 200 || !strings.Contains(string(got), `"text":"hi"`) || strings.Contains(string(got), `"error"`) {
			t.Errorf("%s: %d %s, %v", child, res.StatusCode, got, err)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
