//go:build race

package e2e

// raceEnabled says that the tests run under the race detector: the daemon is built with it too.
const raceEnabled = true
