package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// stdioServer is a server of the tests of servers that are commands.
func stdioServer(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "counting":
		serveCounting(args[1] == "legacy")
	case len(args) == 2 && args[0] == "faulty":
		serveFaulty(args[1])
	case len(args) == 1 && args[0] == "mixed":
		serveMixed()
	default:
		return fmt.Errorf("stdio counting ERA, stdio faulty FAULT or stdio mixed")
	}
	return nil
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
