package e2e

import (
	"path/filepath"
	"testing"
)

// A server starts one real MCP server for a test and returns its endpoint.
type server func(t testing.TB) string

// npmServer is npm's server-everything (legacy). Mode is streamableHttp or sse.
func npmServer(mode string) server {
	return func(t testing.TB) string {
		t.Helper()
		p := start(t, []string{"PORT=0"}, node, "--require", filepath.Join(nodeDir, "loopback.cjs"),
			filepath.Join(nodeDir, "node_modules/@modelcontextprotocol/server-everything/dist/index.js"), mode)
		path := "/mcp"
		if mode == "sse" {
			path = "/sse"
		}
		return "http://127.0.0.1:" + p.announced(t, `loopback: listening on (\d+)\n`) + path
	}
}

// dualServer is the TypeScript server SDK's handler for both eras.
func dualServer(t testing.TB) string {
	t.Helper()
	p := start(t, nil, node, filepath.Join(nodeDir, "dual-server.mjs"))
	return "http://127.0.0.1:" + p.announced(t, `dual: listening on (\d+)\n`) + "/mcp"
}

// goStateful is the Go SDK's conformance server with sessions: legacy only.
func goStateful(t testing.TB) string {
	t.Helper()
	return startGoServer(t, "-stateless=false")
}

// goStateless is the same server without sessions: both eras.
func goStateless(t testing.TB) string {
	t.Helper()
	return startGoServer(t, "-stateless=true")
}

func startGoServer(t testing.TB, mode string) string {
	t.Helper()
	_, port := startOnPort(t, nil, func(port string) []string {
		return []string{filepath.Join(cacheBin, "everything-server"), "-http", "127.0.0.1:" + port, mode}
	})
	return "http://127.0.0.1:" + port
}

// goGreeter is the Go SDK's example server of the old HTTP+SSE transport.
func goGreeter(t testing.TB) string {
	t.Helper()
	_, port := startOnPort(t, nil, func(port string) []string {
		return []string{filepath.Join(cacheBin, "sse"), "-host", "127.0.0.1", "-port", port}
	})
	return "http://127.0.0.1:" + port + "/greeter1"
}
