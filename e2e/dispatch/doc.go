// Package dispatch holds the tests of what happens when a server fails or is slow: the error an agent gets and when, what is
// sent again, circuit breakers, and overload.
package dispatch
