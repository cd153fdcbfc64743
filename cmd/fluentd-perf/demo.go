package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/config"
)

func demoCommand() *cobra.Command {
	var listen []string
	var logs logFlags
	c := &cobra.Command{
		Use: "demo", Short: "Run a real MCP server with the daemon in front, and say how to try it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logs.logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			return runDemo(c, listen, log)
		},
	}
	c.Flags().StringArrayVar(&listen, "listen", nil, "`address` of the daemon; may be repeated")
	logs.register(c)
	return c
}

// runDemo starts the demo server on a free port and the daemon in front of it, and stops both at the end.
func runDemo(c *cobra.Command, listen []string, log *slog.Logger) error {
	ctx := c.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	demo := newDemoServer(buildVersion(), nil)
	server := &http.Server{Handler: demo, ReadHeaderTimeout: readTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	cfg, _, err := config.Load(config.Sources{
		Upstreams: []string{"demo=http://" + l.Addr().String() + "/mcp"}, Listen: listen, Env: os.LookupEnv, ReadFile: os.ReadFile,
	})
	if err == nil {
		err = serve(ctx, cfg, log, c.OutOrStdout(), func(addr string) { printDemoHelp(c.OutOrStdout(), addr) })
	}
	err = errors.Join(err, demo.Close(), server.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
