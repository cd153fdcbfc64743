// Package session holds the tests of MCP sessions: GET streams that outlive their connection, sessions that a server has
// lost and that are opened anew, and what sessions never share.
package session
