package mcp_test

import (
	"testing"

	"fluentd-perf/internal/mcp"
)

// TestSaysNotExecuted holds which refusals of a transport say that a request was not looked into: exact words, with 400.
func TestSaysNotExecuted(t *testing.T) {
	for _, c := range []struct {
		status int
		words  string
		want   bool
	}{
		{400, "Bad Request: Mcp-Session-Id header is required", true},
		{400, "Bad Request: Missing session ID", true},
		{400, "bad request: no valid session ID provided", true},
		{400, "Server not initialized", true},
		{404, "Bad Request: Server not initialized", false},
		{400, "Bad Request: Server not initialized yet", false},
		{400, "Session not found", false}, // it was looked up
		{400, "", false},
	} {
		if got := mcp.SaysNotExecuted(c.status, c.words); got != c.want {
			t.Errorf("%d %q: %v, want %v", c.status, c.words, got, c.want)
		}
	}
}
