// Package demo is the MCP server that the demo verb runs behind the daemon, and the help that it prints.
package demo

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	wire "fluentd-perf/internal/mcp"
)

// sessionIdle ends legacy sessions of agents that left without a DELETE. It is long because many agents do not
// initialise again after a 404: a window left open overnight should still work in the morning.
const sessionIdle = 24 * time.Hour

// listTTL is the `ttlMs` of the demo server's results that never change (SEP-2549).
const listTTL = 5 * time.Minute

// Server is the MCP server of the demo verb: tools, resources, prompts, progress, elicitation, log messages, list
// changes and completion, in both eras on one URL. Its state (one counter, one tool that comes and goes) is shared by
// all agents and lives in memory. It does not drain: Close ends what is open.
type Server struct {
	server *mcp.Server
	modern http.Handler  // 2026-07-28: stateless, no request from server to client
	legacy http.Handler  // up to 2025-11-25: one session per agent
	closed chan struct{} // closed by Close

	mu    sync.Mutex // guards the following
	count int        // the counter resource
	bonus bool       // whether the bonus tool is on the list
}

// New returns the demo server, which calls itself the given version. A nil log means silence. The caller
// calls Close once, when the HTTP server in front takes no more requests.
func New(version string, log *slog.Logger) *Server {
	d := &Server{closed: make(chan struct{})}
	d.server = mcp.NewServer(&mcp.Implementation{Name: "fluentd-perf-demo", Title: "fluentd-perf demo", Version: version}, &mcp.ServerOptions{
		Instructions:       "A server to try fluentd-perf with. Every tool is harmless.",
		Logger:             log,
		CompletionHandler:  d.complete,
		SubscribeHandler:   func(context.Context, *mcp.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *mcp.UnsubscribeRequest) error { return nil },
		SetCacheable:       setCacheable,
	})
	d.addTools()
	d.addResources()
	d.addPrompts()

	// The SDK serves 2026-07-28 from a stateless handler only, and requests from the server to the client (elicitation
	// in legacy) from a stateful one only. Both share one mcp.Server, so that a change made by an agent of one era is
	// told to the agents of the other.
	same := func(*http.Request) *mcp.Server { return d.server }
	d.modern = mcp.NewStreamableHTTPHandler(same, &mcp.StreamableHTTPOptions{
		Stateless:                    true,
		PropagateRequestCancellation: true, // in 2026-07-28 a closed stream is a cancellation (basic/patterns/cancellation)
		Logger:                       log,
	})
	d.legacy = mcp.NewStreamableHTTPHandler(same, &mcp.StreamableHTTPOptions{
		SessionTimeout: sessionIdle,
		Logger:         log,
	})
	return d
}

// ServeHTTP hands a request to the handler of its era, which its MCP-Protocol-Version header tells: a modern request
// must carry it (2026-07-28, basic/transports/streamable-http), and no header means legacy.
func (d *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if wire.EraOf(r.Header.Get("MCP-Protocol-Version")) == wire.EraModern {
		d.modern.ServeHTTP(w, r)
		return
	}
	d.legacy.ServeHTTP(w, r)
}

// Close ends tools in progress, all sessions and their streams, and waits for them. It is called once.
func (d *Server) Close() error {
	close(d.closed)
	for session := range d.server.Sessions() {
		session.Close()
	}
	return nil
}

// setCacheable gives what never changes a time to live and leaves the rest stale at once. It runs under the SDK's
// lock and calls nothing.
func setCacheable(_ context.Context, req mcp.Request, c *mcp.Cacheable) {
	switch r := req.(type) {
	case *mcp.ListPromptsRequest, *mcp.ListResourcesRequest, *mcp.ListResourceTemplatesRequest:
	case *mcp.ReadResourceRequest:
		if r.Params.URI != aboutURI {
			return
		}
	default:
		return
	}
	c.TTLMs = int(listTTL / time.Millisecond)
	c.CacheScope = "public"
}
