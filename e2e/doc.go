// Package e2e holds the end-to-end tests: the daemon's own binary between the official clients and the official servers.
//
// Every test plays the same dialogue twice, once against the server directly and once through the daemon, and compares
// what the client saw: each message, each status, each header of the protocol. What must differ (session ids, event ids,
// times, URLs) is replaced by a name before; nothing else may. The conformance suites run the same way and are compared
// count by count and scenario by scenario.
//
// The tests install what they need by setup.sh (pinned by package-lock.json and go.mod), start servers, daemon and
// clients as children of their own on 127.0.0.1, and end every one of them. They promise nothing about load or speed.
//
// Environment:
//
//	E2E_DAEMON            test this binary instead of one built from the tree
//	E2E_CONFORMANCE_RUNS  how often the conformance suites run in a row (default 1)
//	E2E_FULL              1: the whole load of TestNoLoss, of TestUnreadAnswers and of TestOverload, whose ratios are then held,
//	                      and TestClientConformance with TypeScript's clients
//	CHAOS_SECONDS         how long the storm of TestChaos lasts (default 10)
//	CHAOS_SEED            the order of harm in it (default: another one each time, printed)
package e2e
