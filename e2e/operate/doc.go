// Package operate holds the tests of what an operator sees: drains and restarts, logs, metrics and health.
package operate
