package harness

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ModernOptions say what a ModernServer is like.
type ModernOptions struct {
	Hint   Hint              // of every result that carries one
	JSON   bool              // answers are JSON and not streams of one event
	Tokens map[string]string // bearer token -> who it is; nil: everybody is let in, and is who the token says
	bulk   int               // bytes of padding in what is read
}

// Hint is what a server says about caching (2026-07-28, server/utilities/caching).
type Hint struct {
	TTL   time.Duration // goes out in whole milliseconds
	Scope string        // public or private
}

// ModernServer is the Go SDK's server for 2026-07-28, without sessions, in the test's own process. Every answer says who
// had asked for it and has a number of its own, so that a test can tell an answer that crossed, and one that came from a
// cache. The test changes what it offers while it runs.
type ModernServer struct {
	t   testing.TB
	URL string
	sdk *mcp.Server

	mu        sync.Mutex
	options   ModernOptions
	hints     map[string]Hint // by method, before options.hint
	answers   int             // so far
	versions  map[string]int  // uri -> how often it was changed
	status    int             // that everything is answered with; 0: none
	held      chan struct{}   // closed when calls may go on; nil: they may
	received  map[received]int
	refused   int // 401s
	listeners map[mcp.Session]string
	changed   chan struct{} // closed and replaced when received or listeners change
}

// The keys under which an answer's _meta says who had asked, and which answer it is.
const (
	metaPrincipal = "e2e.test/principal"
	metaAnswer    = "e2e.test/answer"
)

// StartModern starts a server that offers the tool `echo`, the prompt `greeting` and the resources item://0, item://1 and
// so on without end, of which item://0 to item://2 are listed. It ends with the test.
func StartModern(t testing.TB, o ModernOptions) *ModernServer {
	t.Helper()
	m := &ModernServer{
		t: t, options: o, hints: map[string]Hint{}, versions: map[string]int{}, received: map[received]int{},
		listeners: map[mcp.Session]string{}, changed: make(chan struct{}),
	}
	m.sdk = mcp.NewServer(&mcp.Implementation{Name: "modern", Version: "1"}, &mcp.ServerOptions{
		SetCacheable:       m.setCacheable,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
	})
	m.sdk.AddReceivingMiddleware(m.signing)
	m.sdk.AddSendingMiddleware(m.noting)
	m.AddTool("echo")
	m.sdk.AddPrompt(&mcp.Prompt{Name: "greeting"}, sayHello)
	m.sdk.AddResourceTemplate(&mcp.ResourceTemplate{Name: "items", URITemplate: "item://{number}", MIMEType: "text/plain"}, m.read)
	for i := range 3 {
		m.sdk.AddResource(&mcp.Resource{Name: fmt.Sprint("item ", i), URI: Item(i), MIMEType: "text/plain"}, m.read)
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m.sdk },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: o.JSON, PropagateRequestCancellation: true})
	srv := httptest.NewServer(m.counting(handler))
	t.Cleanup(func() {
		m.release()
		srv.CloseClientConnections()
		srv.Close()
	})
	m.URL = srv.URL + "/mcp"
	return m
}

// Item is the uri of a resource.
func Item(number int) string { return fmt.Sprint("item://", number) }

func sayHello(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "hello"}}}}, nil
}

// AddTool adds a tool, at which notifications/tools/list_changed goes to whoever listens. It answers who called it, and with what.
func (m *ModernServer) AddTool(name string) {
	tool := &mcp.Tool{Name: name, InputSchema: map[string]any{"type": "object"}}
	m.sdk.AddTool(tool, func(_ context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		text := fmt.Sprintf("%s for %s: %s", name, m.principal(r.Extra.Header), r.Params.Arguments)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil
	})
}

// removeTool takes a tool away, and tells.
func (m *ModernServer) removeTool(name string) { m.sdk.RemoveTools(name) }

// read answers resources/read: the uri, for whom, its version and, if asked for, padding.
func (m *ModernServer) read(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	uri, who := r.Params.URI, m.principal(r.Extra.Header)
	m.mu.Lock()
	text := fmt.Sprintf("%s for %s, version %d %s", uri, who, m.versions[uri], strings.Repeat("x", m.options.bulk))
	m.mu.Unlock()
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: uri, Text: text}}}, nil
}

// update makes a new version of a resource, and tells whoever listens for it.
func (m *ModernServer) update(uri string) {
	m.mu.Lock()
	m.versions[uri]++
	m.mu.Unlock()
	if err := m.sdk.ResourceUpdated(context.Background(), &mcp.ResourceUpdatedNotificationParams{URI: uri}); err != nil {
		m.t.Errorf("resources/updated: %v", err)
	}
}

// Say sets what results of a method say about caching from now on.
func (m *ModernServer) Say(method string, h Hint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hints[method] = h
}

// fail answers everything with a status from now on, as a server does whose back end is gone; 0 ends that.
func (m *ModernServer) fail(status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = status
}

// Revoke makes a token invalid.
func (m *ModernServer) Revoke(token string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.options.Tokens, token)
}

// hold keeps back the answers of all calls from now on, until release. What had been received is counted.
func (m *ModernServer) hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil {
		m.held = make(chan struct{})
	}
}

// release ends a hold.
func (m *ModernServer) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held != nil {
		close(m.held)
		m.held = nil
	}
}

// setCacheable writes the hint into a result. The SDK calls it with its own lock held.
func (m *ModernServer) setCacheable(_ context.Context, r mcp.Request, c *mcp.Cacheable) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, own := m.hints[methodOf(r)]
	if !own {
		h = m.options.Hint
	}
	c.TTLMs, c.CacheScope = int(h.TTL/time.Millisecond), h.Scope
}

// methodOf is the method of a request that has an answer with a hint.
func methodOf(r mcp.Request) string {
	switch r.GetParams().(type) {
	case *mcp.ListToolsParams:
		return "tools/list"
	case *mcp.ListPromptsParams:
		return "prompts/list"
	case *mcp.ListResourcesParams:
		return "resources/list"
	case *mcp.ListResourceTemplatesParams:
		return "resources/templates/list"
	case *mcp.ReadResourceParams:
		return "resources/read"
	}
	return "server/discover"
}

// signing writes into every answer who had asked and which answer it is, and keeps it back while calls are held.
func (m *ModernServer) signing(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		if method == "subscriptions/listen" {
			return m.listening(ctx, next, r)
		}
		if err := m.wait(ctx); err != nil {
			return nil, err
		}
		result, err := next(ctx, method, r)
		if extra := r.GetExtra(); err == nil && result != nil && extra != nil {
			meta := result.GetMeta()
			if meta == nil {
				meta = map[string]any{}
			}
			meta[metaPrincipal], meta[metaAnswer] = m.principal(extra.Header), m.number()
			result.SetMeta(meta)
		}
		return result, err
	}
}

func (m *ModernServer) wait(ctx context.Context) error {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *ModernServer) number() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers++
	return m.answers
}
