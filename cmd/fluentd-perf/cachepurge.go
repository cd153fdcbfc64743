package main

import (
	"fmt"
	"io"
	"strings"

	"fluentd-perf/internal/api"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/mcp"
)

func cachePurgeCommand() *cobra.Command {
	var params api.CachePurgeParams
	c := &cobra.Command{
		Use: "cache-purge", Short: "Invalidate what a running daemon has cached",
		Long: "Invalidates what the daemon has cached, in every tier: all of it, or what --upstream and --method name. No answer from\n" +
			"before is given after this returns; a tier that cannot be reached is not read until it could be told.\n" +
			"--packages removes the installed packages of npx commands instead, but those from which processes run.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
		Example: "  fluentd-perf cache-purge\n" +
			"  fluentd-perf cache-purge --upstream docs --method tools/list\n" +
			"  fluentd-perf cache-purge --packages",
	}
	socket := asking(c, api.CallCachePurge, &params, purgeTable)
	c.Flags().StringVar(&params.Upstream, "upstream", "", "only what this upstream answered, by its `name` in the configuration")
	c.Flags().StringVar(&params.Method, "method", "", "only answers to this `method`, such as tools/list")
	c.Flags().BoolVar(&params.Packages, "packages", false, "the installed packages of npx commands, and no answers")
	c.MarkFlagsMutuallyExclusive("packages", "upstream")
	c.MarkFlagsMutuallyExclusive("packages", "method")
	completeUpstreams(c, "upstream", socket)
	completeWords(c, "method", cachedMethods()...)
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

func purgeTable(w io.Writer, a api.CachePurge) error {
	if p := a.Packages; p != nil {
		_, err := fmt.Fprintf(w, "%d packages removed, %s; %d in use\n", p.Removed, size(p.Bytes), p.Left)
		return err
	}
	t := newTable(w)
	if len(a.Purged) == 0 {
		fmt.Fprintln(t, "nothing was purged")
	} else {
		row(t, "UPSTREAM", "PURGED")
	}
	for _, p := range a.Purged {
		row(t, p.Upstream, strings.Join(p.Methods, ", "))
	}
	for _, tier := range a.Pending {
		fmt.Fprintf(t, "\n%s could not be told yet: it is not read until it has been\n", printable(tier))
	}
	return t.Flush()
}
