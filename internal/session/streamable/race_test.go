//go:build race

package streamable_test

// isolatedCalls is enough for the race detector, which takes twenty times as long for each.
const isolatedCalls = 200
