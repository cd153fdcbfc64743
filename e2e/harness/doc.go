// Package harness is what the end-to-end tests share: it starts the daemon under test (Start), the servers that it talks to
// and what stores its cache (StartModern, StartRedis, StartPostgres, StartLink), agents that send whatever they are told to
// (Agent, RawAgent), and reads what comes back (Reply, Listener, Recorder, Metrics).
//
// Whatever a test starts ends with the test, and a test fails if it does not. Every wait is bounded by MaxWait. Functions
// that take a testing.TB end the test where they fail, unless they say otherwise.
//
// The programs that the tests run are built once for all packages, into the git-ignored CacheBin: see RunTests.
package harness
