package harness

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// A Call names a tool and its arguments.
type Call struct {
	Tool      string
	Arguments map[string]any
}

// Greeting are the arguments of Greet.
type Greeting struct {
	Name string `json:"name"`
}

// Greet is a tool for servers of the Go SDK.
func Greet(_ context.Context, _ *mcp.CallToolRequest, args Greeting) (*mcp.CallToolResult, any, error) {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "Hi " + args.Name}}}, nil, nil
}

// A Server starts one real MCP server for a test and returns its endpoint.
type Server func(t testing.TB) string

// NPMServer is npm's server-everything (legacy). Mode is streamableHttp or sse.
func NPMServer(mode string) Server {
	return func(t testing.TB) string {
		t.Helper()
		p := StartProcess(t, []string{"PORT=0"}, Node, "--require", filepath.Join(NodeDir, "loopback.cjs"),
			NPMServerScript("everything"), mode)
		path := "/mcp"
		if mode == "sse" {
			path = "/sse"
		}
		return "http://127.0.0.1:" + p.Announced(t, `loopback: listening on (\d+)\n`) + path
	}
}

// DualServer is the TypeScript server SDK's handler for both eras.
func DualServer(t testing.TB) string {
	t.Helper()
	p := StartProcess(t, nil, Node, Script("dual-server"))
	return "http://127.0.0.1:" + p.Announced(t, `dual: listening on (\d+)\n`) + "/mcp"
}

// GoStateful is the Go SDK's conformance server with sessions: legacy only.
func GoStateful(t testing.TB) string {
	t.Helper()
	return startGoServer(t, "-stateless=false")
}

// GoStateless is the same server without sessions: both eras.
func GoStateless(t testing.TB) string {
	t.Helper()
	return startGoServer(t, "-stateless=true")
}

func startGoServer(t testing.TB, mode string) string {
	t.Helper()
	return startGoProgram(t, "everything-server", func(port string) []string { return []string{"-http", "127.0.0.1:" + port, mode} })
}

// startGoProgram starts a server of the Go SDK's on a free port and returns its origin.
func startGoProgram(t testing.TB, name string, args func(port string) []string) string {
	t.Helper()
	_, port := startOnPort(t, nil, func(port string) []string {
		return append([]string{filepath.Join(CacheBin, name)}, args(port)...)
	})
	return "http://127.0.0.1:" + port
}

// GoGreeter is the Go SDK's example server of the old HTTP+SSE transport.
func GoGreeter(t testing.TB) string {
	t.Helper()
	return startGoProgram(t, "sse", func(port string) []string { return []string{"-host", "127.0.0.1", "-port", port} }) + "/greeter1"
}
