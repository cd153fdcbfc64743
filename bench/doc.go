// Package bench measures what the daemon costs: its CPU per request beside a tuned httputil.ReverseProxy, in one run, over
// the same fast upstream and under the same load.
//
// Daemon, proxy, upstream and load generator are processes of their own. Rounds are interleaved, so that a slow moment of
// the machine meets both; the figure is the median over the rounds of the ratio within a round. It is CPU and not time,
// because time on a busy machine says more about the neighbours.
//
// It runs on Linux only (CPU times come from /proc) and only when asked for:
//
//	go test -run '^$' -bench . ./bench/...
package bench
