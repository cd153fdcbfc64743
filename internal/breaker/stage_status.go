package breaker

import (
	"errors"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// BreakerOff is what Status says of an endpoint without a breaker.
const BreakerOff = "off"

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
	Breaker      string `json:"breaker"`                // Closed, HalfOpen, Open or BreakerOff
	InFlight     int    `json:"inFlight"`               // calls under way there, hedges and notifications included
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"` // until it is tried again, where it is left alone

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
	for _, e := range s.endpoints.list {
		es := e.status()
		st.InFlight += es.InFlight
		st.Endpoints = append(st.Endpoints, es)
	}
	if a := s.opts.Admission; a != nil {
		st.InFlight, st.Queued = a.Stats()
	}
	return st
}

func (e *endpoint) status() EndpointStatus {
	es := EndpointStatus{Breaker: BreakerOff, InFlight: int(e.inFlight.Load()), Trouble: e.trouble.Load()}
	if e.Circuit != nil {
		es.Breaker = e.Circuit.State()
		es.RetryAfterMs = e.Circuit.RetryAfter().Milliseconds()
	}
	return es
}

// note remembers a failure for Status. That an agent left, or the daemon stops, is none of the server's.
func (s *Stage) note(e *endpoint, cause error) {
	reason := reasonOf(cause)
	switch mcp.Reason(reason) {
	case "", mcp.ReasonCanceled, mcp.ReasonDraining, mcp.ReasonRPCTimeout:
		return
	}
	s.last.Store(&LastError{Reason: reason, Endpoint: e.index, Message: clauseOf(cause), At: time.Now()})
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
