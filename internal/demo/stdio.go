package demo

import (
	"context"
	"errors"
	"io"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ServeLines serves one agent by lines on in and out, as servers that are commands do, until in ends, which is no error, or ctx.
// Both are closed then. It takes the place of an HTTP server in front: the caller calls Close afterwards.
func (d *Server) ServeLines(ctx context.Context, in io.ReadCloser, out io.WriteCloser) error {
	err := d.server.Run(ctx, &mcp.IOTransport{Reader: in, Writer: out})
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
