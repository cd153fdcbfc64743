package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/admin"
	"fluentd-perf/internal/config"
)

func demoCommand() *cobra.Command {
	var listen []string
	var dirs directoryFlags
	var logs logFlags
	c := &cobra.Command{
		Use: "demo", Short: "Run a real MCP server with the daemon in front, and say how to try it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logs.logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			own, remove, err := demoDirectories(dirs, log)
			if err != nil {
				return err
			}
			return errors.Join(runDemo(c, listen, own, log), remove())
		},
	}
	c.Flags().StringArrayVar(&listen, "listen", nil, "`address` of the daemon; may be repeated")
	dirs.register(c)
	logs.register(c)
	return c
}

// demoDirectories leaves nothing behind on a newcomer's machine, and out of the way of a daemon that runs there: what
// would outlive a restart, and the admin socket, go with the demo, unless somebody says where to. A demo that is killed
// leaves its directory in the system's one for temporary files.
func demoDirectories(flags directoryFlags, log *slog.Logger) (directories, func() error, error) {
	remove := func() error { return nil }
	if flags.state == "" || flags.runtime == "" {
		temp, err := demoDirectory()
		if err != nil {
			return directories{}, nil, err
		}
		flags.state = cmp.Or(flags.state, temp)
		flags.runtime = cmp.Or(flags.runtime, filepath.Join(temp, "run"))
		remove = func() error { return os.RemoveAll(temp) }
	}
	dirs, err := flags.resolveOrWarn(log)
	if err != nil {
		return dirs, nil, errors.Join(err, remove())
	}
	return dirs, remove, nil
}

// demoDirectory makes a directory of the demo's own, with a path that is short enough for a socket in it.
func demoDirectory() (string, error) {
	const name = "fluentd-perf-"
	dir, err := os.MkdirTemp("", name)
	if err != nil || admin.CheckPath(filepath.Join(dir, "run", socketName)) == nil {
		return dir, err
	}
	if err := os.Remove(dir); err != nil {
		return "", err
	}
	return os.MkdirTemp("/tmp", name)
}

// runDemo starts the demo server on a free port and the daemon in front of it, and stops both at the end.
func runDemo(c *cobra.Command, listen []string, dirs directories, log *slog.Logger) error {
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
		err = serve(ctx, cfg, dirs, log, c.OutOrStdout(), func(addr string) {
			printDemoHelp(c.OutOrStdout(), addr, os.Args[0], filepath.Join(dirs.runtime, socketName))
		})
	}
	err = errors.Join(err, demo.Close(), server.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}
