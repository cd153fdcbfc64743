package breaker

import (
	"errors"
	"net/http"
	"strconv"
	"syscall"

	"fluentd-perf/internal/mcp"
)

// outcome is what came of one sending: an answer or a failure.
type outcome struct {
	result  *mcp.Result
	failure *mcp.Failure
	from    *endpoint  // which gave it
	try     try        // holds the endpoint if the answer is a stream
	first   *mcp.Event // has been taken from the stream already
	cancel  func()     // ends the context that the answer lives in; nil: the caller's
}

// good reports whether the server did what it was asked for, as far as HTTP says.
func (o *outcome) good() bool {
	return o.result != nil && o.result.Status < http.StatusInternalServerError && o.result.Status != http.StatusTooManyRequests
}

// sent says whether the server may have seen the request.
func (o *outcome) sent() mcp.Sent {
	if o.failure != nil {
		return o.failure.Sent
	}
	return mcp.SentYes
}

// drop lets go of an answer that nobody gets.
func (o *outcome) drop() {
	if o.result != nil {
		_ = o.result.Close() // of an answer that is thrown away
	}
	o.try.leave()
	o.end()
}

// end ends the answer's own context.
func (o *outcome) end() {
	if o.cancel != nil {
		o.cancel()
	}
}

// statusError is a status of 500 or above, as the cause of a failure.
type statusError int

// Error implements error.
func (e statusError) Error() string { return "the server answered with status " + strconv.Itoa(int(e)) }

// The other causes of failures that are none of the upstream's.
var (
	errSlow     = errors.New("the call took longer than breaker.slow_call")
	errNoAnswer = errors.New("the server's stream ended without a response")
)

// verdictOfStatus is what an answer's status says of the server. A refusal (4xx) is an answer; so is what it says in
// JSON-RPC.
func verdictOfStatus(status int) (Verdict, error) {
	if status >= http.StatusInternalServerError {
		return Failed, statusError(status)
	}
	return Succeeded, nil
}

// verdictOf is what a failure says of the server (design/resilience.md, "Breaker"). One that answers rubbish, or with a
// redirect elsewhere, is reachable: to leave it alone would mend nothing. A timeout counts only if no byte of any call
// came meanwhile. All that is the daemon's own or the agent's says nothing.
func verdictOf(f *mcp.Failure) Verdict {
	switch f.Reason {
	case mcp.ReasonConnect:
		return verdictOfConnect(f)
	case mcp.ReasonConnectTimeout, mcp.ReasonBrokeOff:
		return Failed
	case mcp.ReasonFirstByte, mcp.ReasonIdle, mcp.ReasonCallTimeout:
		if f.Silent {
			return Failed
		}
	case mcp.ReasonBadAnswer, mcp.ReasonRedirect:
		return Succeeded
	}
	return Ignored
}

func verdictOfConnect(f *mcp.Failure) Verdict {
	switch {
	case errors.Is(f, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(f, syscall.EMFILE), errors.Is(f, syscall.ENFILE), errors.Is(f, syscall.EADDRNOTAVAIL):
		return Ignored // this machine has no descriptor or port left
	}
	return Failed
}

// isTimeout reports whether the server took too long.
func isTimeout(r mcp.Reason) bool {
	switch r {
	case mcp.ReasonConnectTimeout, mcp.ReasonFirstByte, mcp.ReasonIdle, mcp.ReasonCallTimeout:
		return true
	}
	return false
}

// failureOf returns the failure that err is.
func failureOf(err error) *mcp.Failure {
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f
	}
	panic("breaker: a caller returned an error that is no failure (this is a bug): " + err.Error())
}
