// Package relay holds the tests of what passes through: that an agent and a server notice nothing of the daemon.
//
// Most play the same dialogue twice, once against the server directly and once through the daemon, and compare what the
// client saw: each message, each status, each header of the protocol. What must differ (session ids, event ids, times,
// URLs) is replaced by a name before; nothing else may. The official conformance suites run the same way and are compared
// count by count and scenario by scenario.
package relay
