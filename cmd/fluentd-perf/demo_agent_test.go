package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/demo"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

// demoWait bounds every wait of these tests; nothing comes near it unless it is broken.
const demoWait = time.Minute

// demoVersions are the newest version of each era.
var demoVersions = map[string]string{"legacy": "2025-11-25", "modern": "2026-07-28"}

// demoClient is an agent connected to a demo server: the official client with channels for what the server sends.
type demoClient struct {
	*mcp.ClientSession
	progress, logs, lists, updates chan string
}

// startDemo serves a demo server on a loopback port until the test ends, and fails the test if anything stays behind.
func startDemo(t *testing.T) (d *demo.Server, url string) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	d = demo.New("test", nil)
	server := httptest.NewServer(d)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		d.Close()
	})
	return d, server.URL
}

// startDemoVerb runs the demo verb, the daemon included, until the test ends, and returns the URL that it printed and all of
// its help.
func startDemoVerb(t *testing.T) (url, help string) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	verb := demoCommand()
	verb.SetArgs([]string{"--listen", "127.0.0.1:0", "--log-level", "error"})
	verb.SetOut(in)
	verb.SetErr(t.Output())
	ended := make(chan error, 1)
	go func() {
		err := verb.ExecuteContext(ctx)
		in.CloseWithError(err)
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("demo: %v", err)
		}
	})
	lines := bufio.NewReader(out)
	for !strings.Contains(help, "Ctrl-C") {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		help += line
	}
	go io.Copy(io.Discard, out)
	first, _, _ := strings.Cut(help, "\n")
	return first[strings.Index(first, "http://"):], help
}

// connectDemo connects an agent that can be asked. The name it answers with is "Ada".
func connectDemo(t *testing.T, url, version string, change func(*mcp.ClientOptions)) *demoClient {
	t.Helper()
	c := &demoClient{
		progress: make(chan string, 16), logs: make(chan string, 16), lists: make(chan string, 16), updates: make(chan string, 16),
	}
	opts := &mcp.ClientOptions{
		Capabilities: &mcp.ClientCapabilities{},
		ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { c.progress <- r.Params.Message },
		//lint:ignore SA1019 the demo server sends log messages to agents of every version
		LoggingMessageHandler:  func(_ context.Context, r *mcp.LoggingMessageRequest) { c.logs <- r.Params.Data.(string) },
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { c.lists <- "tools" },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) { c.updates <- r.Params.URI },
	}
	if change != nil {
		change(opts)
	}
	httpClient := &http.Client{Transport: &http.Transport{}}
	transport := &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: httpClient}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, opts).
		Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		session.Close()
		httpClient.CloseIdleConnections()
	})
	if got := session.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("protocol version %q, want %q", got, version)
	}
	c.ClientSession = session
	return c
}

// call calls a tool and returns its text.
func (c *demoClient) call(t *testing.T, params *mcp.CallToolParams) (text string, result *mcp.CallToolResult) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoWait)
	defer cancel()
	result, err := c.CallTool(ctx, params)
	if err != nil {
		t.Fatalf("%s: %v", params.Name, err)
	}
	for _, content := range result.Content {
		text += content.(*mcp.TextContent).Text
	}
	return text, result
}

// wantText calls a tool without a progress token and checks its text.
func (c *demoClient) wantText(t *testing.T, tool string, args any, want string) {
	t.Helper()
	if got, _ := c.call(t, &mcp.CallToolParams{Name: tool, Arguments: args}); got != want {
		t.Errorf("%s(%v) = %q, want %q", tool, args, got, want)
	}
}

// wantLogs asks for log messages of level info in the way of the agent's era: for the session, or for the one call.
func (c *demoClient) wantLogs(t *testing.T, params *mcp.CallToolParams) {
	t.Helper()
	if c.InitializeResult().ProtocolVersion == demoVersions["modern"] {
		params.Meta = mcp.Meta{"io.modelcontextprotocol/logLevel": "info"}
		return
	}
	//lint:ignore SA1019 logging/setLevel is how agents up to 2025-11-25 ask for log messages
	if err := c.SetLoggingLevel(t.Context(), &mcp.SetLoggingLevelParams{Level: "info"}); err != nil {
		t.Fatal(err)
	}
}

// receive waits for one value of a channel.
func receive(t *testing.T, from <-chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(demoWait):
		t.Fatalf("%q did not come", want)
	}
}

// eachEra runs a test with an agent of each era, on the demo server itself and through the daemon in front of it.
func eachEra(t *testing.T, f func(t *testing.T, c *demoClient)) {
	for era, version := range demoVersions {
		t.Run(era, func(t *testing.T) {
			_, url := startDemo(t)
			f(t, connectDemo(t, url, version, nil))
		})
		t.Run(era+" through the daemon", func(t *testing.T) {
			url, _ := startDemoVerb(t)
			f(t, connectDemo(t, url, version, nil))
		})
	}
}

func toolNames(list *mcp.ListToolsResult) []string {
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names
}
