package stdio

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// serverArgument is the first argument of the test binary where it is to be a server, and the second says of which era.
const serverArgument = "stdio-server"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == serverArgument {
		switch os.Args[2] {
		case faultyMode:
			serveFaulty(os.Args[3])
		case mixedMode:
			serveMixed()
		default:
			serveCounting(os.Args[2] == "legacy")
		}
		syscall.Exit(0) // at once: os.Exit takes a second under the race detector
	}
	callIfAsked()
	becomeIfRestricted()
	harness.RunTests(m)
}

// serveCounting is a server of the official SDK, with state: how often it was called. The SDK speaks both eras; a legacy one refuses
// server/discover as older servers do.
func serveCounting(legacy bool) {
	server := mcp.NewServer(&mcp.Implementation{Name: "counting", Version: "1"}, nil)
	var calls atomic.Int64
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		text := fmt.Sprint(os.Getpid(), " ", calls.Add(1))
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, nil, nil
	})
	if legacy {
		server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
			return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
				if method == "server/discover" {
					return nil, &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: "no such method"}
				}
				return next(ctx, method, r)
			}
		})
	}
	fmt.Fprintln(os.Stderr, "the counting server begins")
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
