// The official clients in these tests, driven step by step.

//lint:file-ignore SA1019 Sampling is deprecated in the newest protocol; the older ones heal.

package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// client is an official client with one session. None of them begins a new one by itself.
type client interface {
	// ask sends a request and waits for what the client makes of the answer.
	ask(method string, params any) outcome
	// expect waits for a notification that came since the last one was waited for.
	expect(method string)
	// exchanges are the HTTP exchanges so far, as "POST tools/list -> 200 application/json".
	exchanges() []string
	// answer has the user answer what the server asked, and waits until the answer was taken.
	answer() []string
}

// outcome is what the user of a client gets.
type outcome struct {
	Result json.RawMessage
	Error  *struct {
		Name, Message string
		Code          any
		Data          *harness.FailureData
	}
	HTTP []string
}

// code is the error's, or 0.
func (o outcome) code() int {
	if o.Error == nil {
		return 0
	}
	code, _ := o.Error.Code.(float64)
	return int(code)
}

func (o outcome) String() string { return string(harness.RawJSON(o)) }

// clients are the kinds there are. The TypeScript one of 2.4.0 is legacy as it comes.
var clients = map[string]func(t *testing.T, url string) client{
	"ts1": func(t *testing.T, url string) client { return startTypeScript(t, "ts1", url) },
	"ts2": func(t *testing.T, url string) client { return startTypeScript(t, "ts2", url) },
	"go":  func(t *testing.T, url string) client { return startGoClient(t, url) },
}

// typeScript is node/heal.mjs.
type typeScript struct {
	*harness.Process
	t     *testing.T
	stdin io.WriteCloser

	mu   sync.Mutex
	sent int
}

func startTypeScript(t *testing.T, kind, url string) *typeScript {
	t.Helper()
	cmd := exec.Command(harness.Node, harness.Script("heal"), kind, url)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = harness.NodeDir, os.Environ(), harness.ChildAttributes()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &typeScript{t: t, Process: harness.StartCommand(t, cmd), stdin: stdin}
	c.Announced(t, "(connected)\n")
	return c
}

func (c *typeScript) do(command map[string]any) outcome {
	c.t.Helper()
	c.mu.Lock()
	c.sent++
	n := c.sent
	command["n"] = n
	_, err := fmt.Fprintf(c.stdin, "%s\n", harness.RawJSON(command))
	c.mu.Unlock()
	if err != nil {
		c.t.Errorf("telling the client: %v", err)
		return outcome{}
	}
	var o outcome
	if err := json.Unmarshal([]byte(c.Announced(c.t, fmt.Sprintf(`reply %d (.*)\n`, n))), &o); err != nil {
		c.t.Errorf("reply %d: %v", n, err)
	}
	return o
}

func (c *typeScript) ask(method string, params any) outcome {
	c.t.Helper()
	return c.do(map[string]any{"method": method, "params": params})
}

func (c *typeScript) expect(method string) {
	c.t.Helper()
	if o := c.do(map[string]any{"expect": method}); o.Error != nil {
		c.t.Errorf("%s: %v", method, o)
	}
}

func (c *typeScript) exchanges() []string { return c.do(map[string]any{"http": true}).HTTP }

func (c *typeScript) answer() []string { return c.do(map[string]any{"ask": true}).HTTP }

// goClient is the Go SDK's client.
type goClient struct {
	*mcp.ClientSession
	t        *testing.T
	recorder *harness.Recorder
	late     chan struct{} // closed: the user answers
}

func startGoClient(t *testing.T, url string) *goClient {
	t.Helper()
	c := &goClient{t: t, recorder: harness.NewRecorder(t), late: make(chan struct{})}
	sdk := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, &mcp.ClientOptions{
		CreateMessageHandler: func(ctx context.Context, _ *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			select {
			case <-c.late:
			case <-ctx.Done():
			}
			return &mcp.CreateMessageResult{Model: "stub", Role: "assistant", Content: &mcp.TextContent{Text: "late"}}, nil
		},
		ResourceUpdatedHandler: func(context.Context, *mcp.ResourceUpdatedNotificationRequest) {},
	})
	session, err := sdk.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: url, HTTPClient: &http.Client{Transport: c.recorder},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.ClientSession = session
	t.Cleanup(func() {
		_ = session.Close() // a session that is gone says so
		_ = session.Wait()
	})
	if err := c.recorder.Exchanged(t.Context(), "GET"); err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitStreams waits until n of the client's GETs have got an answer that begins so.
func (c *goClient) awaitStreams(answer string, n int) {
	c.t.Helper()
	if err := c.recorder.Answered(c.t.Context(), "GET", answer, n); err != nil {
		c.t.Fatalf("%v: %q", err, c.exchanges())
	}
}

func (c *goClient) ask(method string, params any) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), harness.MaxWait)
	defer cancel()
	result, err := c.do(ctx, method, harness.RawJSON(params))
	if err == nil {
		return outcome{Result: harness.RawJSON(result)}
	}
	said := map[string]any{"Message": err.Error(), "Name": fmt.Sprintf("%T", err)}
	var e *jsonrpc.Error
	if errors.As(err, &e) {
		said["Code"], said["Data"] = e.Code, e.Data
	}
	if errors.Is(err, mcp.ErrSessionMissing) {
		said["Name"] = "ErrSessionMissing"
	}
	var o outcome
	if err := json.Unmarshal(harness.RawJSON(map[string]any{"Error": said}), &o); err != nil {
		c.t.Errorf("%s: an error that is none: %v", method, err)
	}
	return o
}

func (c *goClient) do(ctx context.Context, method string, params json.RawMessage) (any, error) {
	switch method {
	case "tools/list":
		return c.ListTools(ctx, read[mcp.ListToolsParams](params))
	case "prompts/list":
		return c.ListPrompts(ctx, read[mcp.ListPromptsParams](params))
	case "resources/read":
		return c.ReadResource(ctx, read[mcp.ReadResourceParams](params))
	case "resources/subscribe":
		return struct{}{}, c.Subscribe(ctx, read[mcp.SubscribeParams](params))
	case "logging/setLevel":
		return struct{}{}, c.SetLoggingLevel(ctx, read[mcp.SetLoggingLevelParams](params))
	case "tools/call":
		return c.CallTool(ctx, read[mcp.CallToolParams](params))
	}
	panic("the Go client is not told how to ask for " + method)
}

func read[P any](params json.RawMessage) *P {
	p := new(P)
	if err := json.Unmarshal(params, p); err != nil {
		panic(err)
	}
	return p
}

func (c *goClient) expect(method string) {
	c.t.Helper()
	if err := c.recorder.Expect(c.t.Context(), method); err != nil {
		c.t.Error(err)
	}
	c.recorder.Take()
}

func (c *goClient) exchanges() []string { return c.recorder.Exchanges() }

func (c *goClient) answer() []string {
	c.t.Helper()
	close(c.late)
	if err := c.recorder.Exchanged(c.t.Context(), "POST response"); err != nil {
		c.t.Error(err)
	}
	return c.recorder.Exchanges()
}

// initialized is how many sessions a client has begun.
func initialized(c client) (n int) {
	for _, exchange := range c.exchanges() {
		if strings.HasPrefix(exchange, "POST initialize ") {
			n++
		}
	}
	return n
}
