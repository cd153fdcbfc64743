// Package mcptest is a scripted MCP server for tests: an HTTP/1.1 server on 127.0.0.1, written by hand over raw TCP, so
// that a test says byte for byte what a server does, the things included that no HTTP library lets one do.
//
// A Script is a Go function that gets one Exchange: the request exactly as it was received, and the pen to answer it. It
// can answer JSON or any status and body, send SSE events one by one and wait for a Gate or a Barrier between them, reset
// the connection before the head, after it, in mid-body or in mid-event, hang, trickle a byte at a time, and answer
// rubbish. The Server records what it received (raw bytes, header fields in order) and counts the side effects that
// scripts declare, so that a test can tell "it did nothing" from "it did the work and the answer was lost".
//
// An NPMRegistry is a registry of npm packages for what runs npm.
//
// It promises that Close leaves no goroutine and no socket, that nothing but 127.0.0.1 is listened on, and that every
// wait ends: when the test ends, or after WaitTimeout. It is not a conforming MCP server and checks nothing of what clients
// send: that is left to the tests.
package mcptest
