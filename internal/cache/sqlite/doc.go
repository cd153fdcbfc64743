// Package sqlite keeps cache entries in a SQLite file of this daemon alone, embedded by modernc.org/sqlite. It is a tier.Tier.
//
// It promises what tier.Tier says; that a call takes no longer than its Timeout, also where the disk hangs; that a file
// which is lost, damaged or on a disk that fails is used again, or replaced, soon after that can be done; and that what it
// cannot make sense of is no entry. It never loses more than a cache may lose: everything.
//
// It leaves to others what an entry means, whether it may be served, its compression and its secrecy: values are stored as
// they are given, so whoever reads the file reads them. A circuit breaker in front of it saves callers the timeout; there is
// none in here.
package sqlite

import "errors"

var (
	// errInUse is in the error of Open where another process uses the file.
	errInUse = errors.New("in use by another process")
	// errUnavailable is in the error of calls while there is no file that can be used.
	errUnavailable = errors.New("the database is not available")
)
