// Package sqldb keeps cache entries in a database: SQLite, embedded by modernc.org/sqlite and one file of this daemon
// alone, or Postgres by pgx, which several daemons may share. Both are a cache.Tier.
//
// It promises what cache.Tier says; that a call takes no longer than its Timeout, also where the database hangs; that a
// database which is dead at the start, dies, loses its tables or its file is used again soon after it is back; and that
// what it cannot make sense of is no entry. It never loses more than a cache may lose: everything.
//
// Entries carry absolute times, so the clocks of daemons that share a server have to be together to within what they can
// bear.
//
// It leaves to others what an entry means, whether it may be served, and its secrecy: values are stored as they are
// given, but for compression, so whoever reads the file or the table reads them. A breaker in front of it saves callers
// the timeout; there is none in here.
package sqldb

import "errors"

var (
	// ErrInUse is in the error of OpenSQLite where another process uses the file.
	ErrInUse = errors.New("in use by another process")
	// ErrUnavailable is in the error of calls while there is no usable database: it was never reached, or is being
	// rebuilt.
	ErrUnavailable = errors.New("the database is not available")
)

// PoolStats says how a tier's connections are used. Counters start at 0 when the tier is opened.
type PoolStats struct {
	Open, Idle, Active int    // connections now
	Reused, Fresh      uint64 // connections that calls were given: those that were open already, and those made for them
}
