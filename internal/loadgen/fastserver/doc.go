// Package fastserver is an MCP server that costs next to nothing: a goroutine for each connection, requests read by hand, answers
// cut from ready bytes. It is what benchmarks have behind the daemon, and what tells the generator's own ceiling.
//
// It serves both eras on any path, and plain JSON-RPC with arrays; Sessions is the path under which it gives session ids. Every
// answer is known to the byte beforehand (Result), so that a client can tell a wrong one. It keeps no session: any id will do.
// ServeLines is the same over lines. Extra tools cost what their owner does in them.
package fastserver
