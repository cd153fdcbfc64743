// Package mcp is the ground floor of fluentd-perf: what a message, a method, a call, an answer and a failure are.
//
// It scans JSON-RPC without decoding it (Scan, EventReader, LineReader), knows the five protocol versions and what may be
// done with each method, and defines the seam that all stages share: a Caller answers a Call with a Result or with a
// *Failure. Payloads stay the bytes that were received; only the envelope is looked at.
//
// The package imports the standard library only, and nothing of this module: every stage stands on it.
package mcp
