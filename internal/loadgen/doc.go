// Package loadgen makes calls to MCP servers and measures what becomes of them, at little cost of its own: raw HTTP/1.1 over
// connections that it keeps, or lines to processes that it starts (command.go), requests that are made once and patched, answers that
// are compared as bytes.
//
// Clients (client.go) are the connections to a Target (target.go), each with a session where the server has them. A Load (load.go)
// says how many calls are made and when: in a closed loop the next one as soon as one is answered, in an open loop at a constant rate
// whatever becomes of them, in bursts all at once. Work says what each call is. Agents (agents.go) start at once and wait for each other. A Round (result.go) is what it came to. Two times
// are kept of a call: the service time, from the send to the whole answer, and the time from when it was meant to be sent, in which a
// server's stall counts for all the calls that it held back.
//
// Every answer is checked: its status, its id, that it is a result and no error, and where the server is the scripted one
// (fastserver) every byte. What is wrong counts as a fault of a closed set of reasons and has no time.
//
// The package promises that it never sends a call twice, that it records nothing of a failed one among the times, and that what it
// reads is bounded. What to measure, against what, and the processes for it are the business of scenario.
package loadgen
