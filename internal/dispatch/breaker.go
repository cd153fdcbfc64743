package dispatch

import "time"

// Breaker is the breaker of one endpoint. See internal/breaker, which says what each method promises.
type Breaker interface {
	Closed() bool  // it lets everything through
	State() string // closed, half-open or open, for people
	// Allow reports whether a call may go there now, an early one whatever the backoff. If so, the Permit has to be told what
	// came of it.
	Allow(early bool) (Permit, bool)
	RetryAfter(early bool) time.Duration // until the next probe, 100 ms where one is due or under way; 0: closed
	Alive()                              // something that does not count went well there
	Last() error                         // the last failure
}

// Permit is a call that a Breaker has allowed.
type Permit interface {
	Probe() bool      // it tries whether the endpoint works again
	Done(cause error) // it did well, with nil, or failed
	Ignore()          // nothing was learnt
}

// BreakerOff is what Status says of an endpoint without a breaker.
const BreakerOff = "off"

// noBreaker is the breaker of an endpoint that has none.
type noBreaker struct{}

func (noBreaker) Closed() bool                  { return true }
func (noBreaker) State() string                 { return BreakerOff }
func (noBreaker) Allow(bool) (Permit, bool)     { return noPermit{}, true }
func (noBreaker) RetryAfter(bool) time.Duration { return 0 }
func (noBreaker) Alive()                        {}
func (noBreaker) Last() error                   { return nil }

// noPermit is the permit of a call that tells no breaker.
type noPermit struct{}

func (noPermit) Probe() bool { return false }
func (noPermit) Done(error)  {}
func (noPermit) Ignore()     {}
