// Package cache holds the tests of what is kept: for whom and how long, with real Redis and Postgres servers and a real
// database file, which are killed, hung, filled up and moved while agents ask.
package cache
