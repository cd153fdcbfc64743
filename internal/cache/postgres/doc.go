// Package postgres keeps cache entries in a Postgres server, which several daemons may share, by pgx. It is a tier.Tier.
//
// It promises what tier.Tier says; that a call takes no longer than its Timeout, also where the server hangs; that a server
// which is dead at the start, dies or loses its tables is used again soon after it is back; that connections at several
// servers behind one address are not mixed; and that what it cannot make sense of is no entry. It never loses more than a
// cache may lose: everything.
//
// Entries carry absolute times, so the clocks of daemons that share a server have to be together to within what they can
// bear.
//
// It leaves to others what an entry means, whether it may be served, its compression and its secrecy: values are stored as
// they are given, so whoever reads the table reads them. A circuit breaker in front of it saves callers the timeout; there is
// none in here.
package postgres

import "errors"

// errUnavailable is in the error of calls while there is no usable database: it was never reached, or its tables are being
// made again.
var errUnavailable = errors.New("the database is not available")
