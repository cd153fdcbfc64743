//go:build race

package harness

// raceEnabled says that the tests run under the race detector: the daemon is built with it too.
const raceEnabled = true
