// Package rpc holds the tests of JSON-RPC arrays: those that clients send, and those in which the daemon sends many calls to
// a server.
package rpc
