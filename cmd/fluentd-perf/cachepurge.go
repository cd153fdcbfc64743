package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"fluentd-perf/internal/api"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/mcp"
)

func cachePurgeCommand() *cobra.Command {
	var socket socketFlag
	var question api.CachePurgeParams
	var output string
	c := &cobra.Command{
		Use: "cache-purge", Short: "Throw away what a running daemon has cached", Args: cobra.NoArgs,
		Long: "Makes what the daemon has cached old, in every tier: all of it, or what --upstream and --method name. No answer from\n" +
			"before is given after this returns; a tier that cannot be reached is not read until it could be told.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
		Example: "  fluentd-perf cache-purge\n" +
			"  fluentd-perf cache-purge --upstream docs --method tools/list",
		RunE: func(c *cobra.Command, _ []string) error {
			var answer api.CachePurge
			if err := socket.ask(c, api.CallCachePurge, question, &answer); err != nil {
				return err
			}
			if output == "json" {
				return writeJSON(c.OutOrStdout(), listed(answer))
			}
			return purgeTable(c.OutOrStdout(), answer)
		},
	}
	c.Flags().StringVar(&question.Upstream, "upstream", "", "only what this upstream answered, by its `name` in the configuration")
	c.Flags().StringVar(&question.Method, "method", "", "only answers to this `method`, such as tools/list")
	completeUpstreams(c, "upstream", &socket)
	completeWords(c, "method", cachedMethods()...)
	socket.register(c)
	outputFlag(c, &output)
	return c
}

// cachedMethods are the methods of MCP whose answers may be cached.
func cachedMethods() (names []string) {
	for _, m := range []mcp.Method{
		mcp.MethodServerDiscover, mcp.MethodToolsList, mcp.MethodToolsCall, mcp.MethodPromptsList,
		mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList, mcp.MethodResourcesRead,
	} {
		names = append(names, m.String())
	}
	return names
}

// listed returns the answer with empty lists where there were none, for programs that go through them.
func listed(a api.CachePurge) api.CachePurge {
	purged := make([]api.Purged, len(a.Purged))
	for i, p := range a.Purged {
		purged[i] = api.Purged{Upstream: p.Upstream, Methods: append([]string{}, p.Methods...)}
	}
	return api.CachePurge{Purged: purged, Pending: append([]string{}, a.Pending...)}
}

func purgeTable(w io.Writer, a api.CachePurge) error {
	if len(a.Purged) == 0 {
		fmt.Fprintln(w, "nothing was purged")
	} else {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "UPSTREAM\tPURGED\n")
		for _, p := range a.Purged {
			fmt.Fprintf(t, "%s\t%s\n", printable(p.Upstream), printable(strings.Join(p.Methods, ", ")))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, tier := range a.Pending {
		fmt.Fprintf(w, "\n%s could not be told yet: it is not read until it has been\n", printable(tier))
	}
	return nil
}
