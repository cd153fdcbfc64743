package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/demo"
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
			surviveBrokenPipes()
			out := newLineQueue(c.OutOrStdout()) // help that nobody reads does not keep it from ending
			defer out.Close()
			c.SetOut(out)
			signals := demoSignals() // from before there is something to remove
			own, remove, err := demoDirectories(dirs, log)
			if err != nil {
				return err
			}
			return runDemoUntil(c.Context(), signals, remove, func(ctx context.Context) error { return runDemo(ctx, c, listen, own, log) })
		},
	}
	c.Flags().StringArrayVar(&listen, "listen", nil, "`address` of the daemon; may be repeated")
	dirs.register(c)
	logs.register(c)
	return c
}

// demoServerCommand is the demo server alone, as a server that is a command: what the demo has behind it a second time.
func demoServerCommand() *cobra.Command {
	return &cobra.Command{
		Use: demoServerVerb, Short: "Be the demo server over stdin and stdout", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			server := demo.New(buildVersion(), nil)
			return errors.Join(server.ServeLines(c.Context(), os.Stdin, os.Stdout), server.Close())
		},
	}
}

const demoServerVerb = "demo-server"

// runDemoUntil calls run with a context that ends with the first of signals, and remove in any case.
func runDemoUntil(ctx context.Context, signals chan os.Signal, remove func() error, run func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		endDemo(ctx, signals, cancel, remove)
	}()
	err := errors.Join(run(ctx), remove())
	signal.Stop(signals)
	close(signals)
	<-ended
	return err
}

// runDemo starts the demo server on a free port and the daemon in front of it, and stops both at the end. The daemon has the
// demo server a second time, as a command.
func runDemo(ctx context.Context, c *cobra.Command, listen []string, dirs daemon.Paths, log *slog.Logger) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	behind := demo.New(buildVersion(), nil)
	server := &http.Server{Handler: behind, ReadHeaderTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	cfg, err := demoConfig(l.Addr().String(), listen)
	if err == nil {
		o := daemonOptions(cfg, dirs, log, c.OutOrStdout())
		o.Ready = func(addr string) {
			demo.PrintHelp(c.OutOrStdout(), addr, os.Args[0], filepath.Join(dirs.Runtime, daemon.SocketName))
		}
		err = daemon.Run(ctx, o)
	}
	err = errors.Join(err, behind.Close(), server.Close())
	if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// demoConfig has the demo server at an address, and as a command.
func demoConfig(address string, listen []string) (*config.Config, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cfg, _, err := config.Load(config.Sources{
		Upstreams: []string{"demo=http://" + address + "/mcp"},
		Stdio:     []string{"demo-stdio='" + strings.ReplaceAll(program, "'", `'\''`) + "' " + demoServerVerb},
		Listen:    listen, Env: os.LookupEnv, ReadFile: os.ReadFile,
	})
	if err == nil {
		cfg.Processes.Path.Source = config.PathInherit // its command is found without a login shell
	}
	return cfg, err
}

// demoDirectories leaves nothing behind on a newcomer's machine, and out of the way of a daemon that runs there: what
// would outlive a restart, and the admin socket, go with the demo, unless somebody says where to.
func demoDirectories(flags directoryFlags, log *slog.Logger) (daemon.Paths, func() error, error) {
	remove := func() error { return nil }
	if flags.State == "" || flags.Runtime == "" {
		temp, removeTemp, err := demo.Directory(func(dir string) bool {
			return api.CheckPath(filepath.Join(dir, "run", daemon.SocketName)) == nil
		}, log)
		if err != nil {
			return daemon.Paths{}, nil, err
		}
		flags.State, flags.Runtime, remove = cmp.Or(flags.State, temp), cmp.Or(flags.Runtime, filepath.Join(temp, "run")), removeTemp
		flags.Cache = cmp.Or(flags.Cache, filepath.Join(temp, "cache"))
	}
	dirs, err := flags.Resolve(log)
	if err != nil {
		return dirs, nil, errors.Join(err, remove())
	}
	return dirs, remove, nil
}
