package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// TestDemoServer has the SDK's client start the demo server as a command, and end it by closing its stdin.
func TestDemoServer(t *testing.T) {
	for era, version := range demoVersions {
		t.Run(era, func(t *testing.T) {
			server := exec.Command(os.Args[0], demoServerVerb)
			server.Env = append(os.Environ(), asProgram+"=1")
			client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
			session, err := client.Connect(t.Context(), &mcp.CommandTransport{Command: server}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 40, "b": 2}})
			if err != nil || result.Content[0].(*mcp.TextContent).Text != `{"sum":42}` {
				t.Errorf("add: %+v, %v", result, err)
			}
			if err := session.Close(); err != nil {
				t.Error(err)
			}
			if !server.ProcessState.Success() {
				t.Errorf("the server ended with %v", server.ProcessState)
			}
		})
	}
}
