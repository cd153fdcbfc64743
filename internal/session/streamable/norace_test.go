//go:build !race

package streamable_test

// isolatedCalls is how many calls each agent makes: `make test` runs the tests of them with the race detector, and with so many without it.
const isolatedCalls = 1000
