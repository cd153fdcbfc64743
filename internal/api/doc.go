// Package api is the daemon's control API: named calls over HTTP on a Unix socket, and the client that the verbs use.
//
// A call is a POST to /name with JSON parameters, or none; the answer is JSON with status 200, or {"error": "..."} with
// another status. What the calls do is handed in; what they are given and answer is here (calls.go), shared by the daemon and the verbs.
//
// The guard is the socket file's mode: who may write to it may do everything. It is 0600, or 0660 with a group that can be
// given the file, from the first moment at which it has its name. The package promises that a daemon never takes the socket of another one that
// runs, never removes a file that is not its own socket, and that what comes in is bounded in size, time and number, so
// that a broken script does the daemon no harm. It does not look at who asks.
package api
