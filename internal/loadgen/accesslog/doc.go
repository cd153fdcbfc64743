// Package accesslog says what traffic has cost and could have saved, from the access lines that the daemon wrote of it. It calls nobody.
//
// A Reader takes lines of the daemon's log, text or JSON, also with what journald or a container's log puts before them, and leaves
// out all others, which it counts. What it holds in memory is bounded, whatever the log is: lines, names and calls that it remembers.
//
// An access line has no bodies and no credentials. What it has of two calls that are equal is that their server, method, tool,
// session or agent, and sizes are. So what the daemon did is exact, and what it could have done is an upper bound.
package accesslog
