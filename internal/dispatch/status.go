package dispatch

import (
	"time"

	"fluentd-perf/internal/mcp"
)

// Status is what a Stage does now.
type Status struct {
	Endpoints []EndpointStatus `json:"endpoints"`           // in the order of Options
	InFlight  int              `json:"inFlight"`            // calls that hold a slot
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
		st.Endpoints = append(st.Endpoints, e.status())
	}
	st.InFlight, st.Queued = s.opts.Admission.Stats()
	return st
}

func (e *endpoint) status() EndpointStatus {
	return EndpointStatus{
		Breaker: e.Breaker.State(), RetryAfterMs: e.Breaker.RetryAfter(false).Milliseconds(),
		InFlight: int(e.inFlight.Load()), Trouble: e.trouble.Load(),
	}
}

// note remembers for Status what a sending said of an endpoint, and the failure that it was. Of several that fail at once one may
// be missed: it is for people.
func (s *Stage) note(e *endpoint, h health, f *mcp.Failure) {
	before := e.trouble.Load()
	if h == healthy && before != nil {
		e.trouble.Store(nil)
	}
	if f == nil {
		return
	}
	now, reason := time.Now(), f.Reason
	if gaveUp(f) {
		reason = reasonGivenUp
	}
	if h == failing {
		t := Trouble{Since: now, Failures: 1, Reason: string(reason), Message: f.Message}
		if before != nil {
			t.Since, t.Failures = before.Since, before.Failures+1
		}
		e.trouble.Store(&t)
	}
	switch reason {
	case mcp.ReasonCanceled, mcp.ReasonDraining, mcp.ReasonRPCTimeout: // an agent left, or the daemon stops
		return
	}
	s.last.Store(&LastError{Reason: string(reason), Endpoint: e.index, Message: f.Message, At: now})
}
