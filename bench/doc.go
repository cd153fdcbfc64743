// Package bench measures the built daemon, beside other proxies and beside other builds of itself. What is behind it, the load and the
// other proxies are processes of their own, so that what each takes can be told.
//
//   - `make performance` writes the tables and the picture of docs/performance.md: direct, through the daemon, twice, and through
//     nginx, HAProxy, fasthttp, a tuned httputil.ReverseProxy and MCP bridges (package directories fasthttp and peers); the load
//     generator beside wrk.
//   - `make bench` prints what the daemon costs beside the ReverseProxy, what `batch` saves, what calls cost while a breaker is open or
//     another server hangs, and what it costs to be watched by `monitor` and `profile`.
//   - `make regress-proof` shows that `benchmark compare` finds what was planted in a build, and how often it alarms without cause.
//     allocations.json has the figures that `make regress` compares with, and names their commit.
//
// Rounds of all that is compared take turns, so that a slow moment of the machine meets all; figures are medians, over the rounds, of the
// ratio within a round. Costs are CPU time: time on a busy machine says more of its neighbours. All but the smallest tests run on Linux
// only, because CPU times come from its kernel, and only when asked for.
package bench
