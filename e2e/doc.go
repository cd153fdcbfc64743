// Package e2e is the folder of the end-to-end tests: the daemon's own binary between clients and servers, the official
// ones among them.
//
// Each folder is a package of tests about one thing: relay (what is said passes unchanged), session, cache, dispatch
// (faults, breakers, overload), rpc (arrays), stdio (servers that are processes), operate (start and stop, logs, metrics) and chaos. Package harness is what
// they share. peer is a program that tests run as servers and as agents, node holds what runs on Node.js.
//
// The tests install what they need by setup.sh (pinned by package-lock.json and go.mod), start servers, daemon and
// clients as children of their own on 127.0.0.1, and end every one of them. They promise nothing about load or speed.
//
// Environment:
//
//	E2E_DAEMON            test this binary instead of one built from the tree
//	E2E_SETUP             done: setup.sh was run, as by `make test`, and need not be run by each package
//	E2E_CONFORMANCE_RUNS  how often the conformance suites run in a row (default 1)
//	E2E_FULL              1: the whole load of TestNoLoss, of TestUnreadAnswers and of TestOverload, whose ratios are then held,
//	                      of TestIsolation and of TestAbandonedSessions, TestClientConformance with TypeScript's clients, and
//	                      TestRealServers with every client
//	CHAOS_SECONDS         how long the storm of TestChaos lasts (default 10)
//	CHAOS_SEED            the order of harm in it (default: another one each time, printed)
package e2e
