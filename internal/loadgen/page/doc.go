// Package page writes reports of benchmarks as one HTML page for people. It has no script, loads nothing, and a
// Content-Security-Policy forbids that it ever does. What it needs is in it: a style sheet (page.css), and the charts (chart.go) as
// SVG: the distribution of times over a logarithmic axis of percentiles (spectrum.go) and calls a second over time (throughput.go).
//
// A report may be another's file: names and errors in it are text, whatever is in them, and a figure that makes no sense makes no
// chart. Colours tell targets apart and say nothing of better or worse; which difference is claimed, loadgen has decided.
package page
