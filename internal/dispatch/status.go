package dispatch

import (
	"errors"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// Status is what a Stage does now.
type Status struct {
	Endpoints []EndpointStatus `json:"endpoints"`           // in the order of Options
	InFlight  int              `json:"inFlight"`            // calls that hold a slot; without an Admission, of all endpoints
	Queued    int              `json:"queued"`              // calls that wait for one
	LastError *LastError       `json:"lastError,omitempty"` // nil: there was none
	Retries   uint64           `json:"retries"`             // calls that were sent again, since the start, each time counted
	Hedges    uint64           `json:"hedges"`              // second calls to another endpoint, since the start
}

// EndpointStatus is what is known of one endpoint.
type EndpointStatus struct {
	Breaker      string `json:"breaker"`                // closed, half-open, open or BreakerOff
	InFlight     int    `json:"inFlight"`               // calls under way there, hedges and notifications included
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"` // until it is tried again, where its breaker is not closed

	Trouble *Trouble `json:"trouble,omitempty"` // nil: the last call that says something of it was a success
}

// Trouble is what is wrong with an endpoint.
type Trouble struct {
	Since    time.Time `json:"since"`    // the first failure since it last worked
	Failures int       `json:"failures"` // that many, each sending counted
	Reason   string    `json:"reason"`   // of the last one, see LastError
	Message  string    `json:"message"`  // of the last one, without addresses or secrets
}

// LastError is the newest failure of the server's.
type LastError struct {
	Reason   string    `json:"reason"` // a mcp.Reason, http_ and a status of 500 or above, slow_call, or given_up
	Endpoint int       `json:"endpoint"`
	Message  string    `json:"message,omitempty"` // without addresses or secrets
	At       time.Time `json:"at"`
}

// Status returns what the Stage does now. The numbers are of about the same moment.
func (s *Stage) Status() Status {
	st := Status{LastError: s.last.Load(), Retries: s.retries.Load(), Hedges: s.hedged.Load()}
	for _, e := range s.endpoints {
		es := e.status()
		st.InFlight += es.InFlight
		st.Endpoints = append(st.Endpoints, es)
	}
	if a := s.opts.Admission; a != Admission(unbounded{}) {
		st.InFlight, st.Queued = a.Stats()
	}
	return st
}

func (e *endpoint) status() EndpointStatus {
	return EndpointStatus{
		Breaker: e.Breaker.State(), RetryAfterMs: e.Breaker.RetryAfter(false).Milliseconds(),
		InFlight: int(e.inFlight.Load()), Trouble: e.trouble.Load(),
	}
}

// note remembers for Status what a sending said of an endpoint. Of several that fail at once one may be missed: it is for
// people.
func (s *Stage) note(e *endpoint, h health, cause error) {
	before := e.trouble.Load()
	if h == healthy && before != nil {
		e.trouble.Store(nil)
	}
	if cause == nil {
		return
	}
	now, reason, message := time.Now(), reasonOf(cause), clauseOf(cause)
	if h == failing {
		t := Trouble{Since: now, Failures: 1, Reason: reason, Message: message}
		if before != nil {
			t.Since, t.Failures = before.Since, before.Failures+1
		}
		e.trouble.Store(&t)
	}
	switch mcp.Reason(reason) {
	case "", mcp.ReasonCanceled, mcp.ReasonDraining, mcp.ReasonRPCTimeout: // an agent left, or the daemon stops
		return
	}
	s.last.Store(&LastError{Reason: reason, Endpoint: e.index, Message: message, At: now})
}

// clauseOf says in words of our own, without addresses and secrets, what a failure of the server's was.
func clauseOf(cause error) string {
	if f := new(mcp.Failure); errors.As(cause, &f) {
		return f.Message
	}
	return cause.Error() // all others are made here
}

func reasonOf(cause error) string {
	var f *mcp.Failure
	var status statusError
	switch {
	case errors.As(cause, &f) && gaveUp(f):
		return "given_up"
	case f != nil:
		return string(f.Reason)
	case errors.As(cause, &status):
		return "http_" + strconv.Itoa(int(status))
	case cause == errSlow:
		return "slow_call"
	case cause == errNoAnswer:
		return string(mcp.ReasonBrokeOff)
	}
	return ""
}
