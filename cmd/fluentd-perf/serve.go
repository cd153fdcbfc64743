package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
)

// sourceFlags say where the configuration comes from; serve and check share them.
type sourceFlags struct {
	file      string
	mcpJSON   []string
	upstreams []string
	stdio     []string
	shared    []string
	listen    []string
	system    bool // the daemon is a service of the system
}

func (f *sourceFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "config", "", "configuration `file` (YAML)")
	c.Flags().StringArrayVar(&f.mcpJSON, "mcp-json", nil, "front every server that this servers `file` of an agent names; may be repeated")
	c.Flags().StringArrayVar(&f.upstreams, "upstream", nil, "an upstream as `name=url`; may be repeated")
	c.Flags().StringArrayVar(&f.stdio, "stdio", nil, "a server over stdin and stdout as `name='command'`, in words as for a shell; may be repeated")
	c.Flags().StringSliceVar(&f.shared, "shared", nil, "`name,...` of servers that are commands whose sessions share a process: see docs/stdio.md")
	c.Flags().StringArrayVar(&f.listen, "listen", nil, "`address` or unix:PATH to listen on, in place of the configured ones; may be repeated")
	completeFiles(c, "config", "yaml", "yml")
	completeFiles(c, "mcp-json", "json")
}

func (f *sourceFlags) load() (*config.Config, []config.Warning, error) {
	cfg, warnings, err := config.Load(config.Sources{
		File: f.file, MCPJSON: f.mcpJSON, Upstreams: f.upstreams, Stdio: f.stdio, Shared: f.shared, Listen: f.listen,
		SystemUnit: f.system || daemon.UnderSystemUnit(), Env: os.LookupEnv, ReadFile: os.ReadFile,
	})
	if err != nil {
		return nil, warnings, daemon.UsageError{Err: err}
	}
	return cfg, warnings, nil
}

func serveCommand() *cobra.Command {
	var sources sourceFlags
	var dirs directoryFlags
	var logs logFlags
	c := &cobra.Command{
		Use: "serve", Short: "Run the daemon", Args: cobra.NoArgs,
		Example: "  fluentd-perf serve --config fluentd-perf.yaml\n" +
			"  fluentd-perf serve --mcp-json .mcp.json\n" +
			"  fluentd-perf serve --upstream docs=https://example.com/mcp --stdio files='npx -y @modelcontextprotocol/server-filesystem /data'",
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := logs.logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			surviveBrokenPipes()
			defer surviveHangups(log)()
			cfg, warnings, err := sources.load()
			for _, w := range warnings {
				log.Warn(w.String())
			}
			if err != nil {
				return err
			}
			own, err := dirs.Resolve(log)
			if err != nil {
				return err
			}
			return daemon.Run(c.Context(), daemonOptions(cfg, own, log, c.OutOrStdout()))
		},
	}
	sources.register(c)
	dirs.register(c)
	logs.register(c)
	return c
}

// daemonOptions are those of a daemon in this process.
func daemonOptions(cfg *config.Config, paths daemon.Paths, log *slog.Logger, out io.Writer) daemon.Options {
	return daemon.Options{Config: cfg, Paths: paths, Log: log, Out: out, Version: buildVersion(), LostLines: lostLines(log)}
}
