package mcp

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The codes of errors that the daemon makes itself. Those of its own lie outside the ranges that JSON-RPC and MCP
// reserve (2026-07-28, basic/index, "Error codes").
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeHeaderMismatch = -32020
	CodeSessionRestart = 1410
	CodeTooLarge       = 1413
	CodeOverloaded     = 1429
	CodeBadGateway     = 1502
	CodeUnavailable    = 1503
	CodeDeadlinePassed = 1504
)

// Reason says in one word why a call failed. The set is closed: reasons are metric labels and part of error data.
type Reason string

// The reasons of failures.
const (
	ReasonParse          Reason = "parse"           // not JSON
	ReasonInvalidMessage Reason = "invalid_message" // JSON, but not one valid JSON-RPC message
	ReasonBodyTooLarge   Reason = "body_too_large"  // limits.body
	ReasonBuffered       Reason = "buffered"        // limits.buffered, over all requests
	ReasonPoolWait       Reason = "pool_wait"       // no connection came free within pool.wait_timeout
	ReasonTooManyStreams Reason = "too_many_streams"
	ReasonTooManyCalls   Reason = "too_many_calls" // outstanding calls of one HTTP+SSE session
	ReasonConnect        Reason = "connect"        // could not reach the server: resolve, dial, TLS
	ReasonBrokeOff       Reason = "broke_off"      // the server was reached and the answer did not come whole
	ReasonBadAnswer      Reason = "bad_answer"     // an answer that is not MCP
	ReasonRedirect       Reason = "redirect"       // a redirect to another origin, or too many
	ReasonDraining       Reason = "draining"       // the daemon is stopping
	ReasonConnectTimeout Reason = "connect_timeout"
	ReasonFirstByte      Reason = "first_byte_timeout"
	ReasonIdle           Reason = "idle_timeout"
	ReasonCallTimeout    Reason = "call_timeout"
	ReasonCanceled       Reason = "canceled" // the agent left: nobody reads this

	ReasonBreakerOpen      Reason = "breaker_open"      // the server failed too often just now and is not called
	ReasonQueueFull        Reason = "queue_full"        // limits.queue
	ReasonQueueWait        Reason = "queue_wait"        // limits.queue_wait
	ReasonInFlight         Reason = "in_flight"         // limits.in_flight, over all servers
	ReasonSessionRestarted Reason = "session_restarted" // the session was opened anew: its state on the server is gone
	ReasonSessionLost      Reason = "session_lost"      // the answer was due on a session that the server has lost
	ReasonRPCAnswers       Reason = "rpc_answers"       // rpc.answers: the answers of one array are too large together
	ReasonRPCTimeout       Reason = "rpc_timeout"       // rpc.timeout

	ReasonHeaderMismatch Reason = "header_mismatch" // the Mcp-* headers of a modern request differ from its body: said by the daemon for stdio servers
	ReasonStartFailed    Reason = "start_failed"    // a server's process could not be started, or ended before it answered
	ReasonStillStarting  Reason = "still_starting"  // a server's process takes longer to start than agents wait; the start goes on
	ReasonProcesses      Reason = "processes"       // processes.max or processes.total, and none can be ended for the call
	ReasonSubscriptions  Reason = "subscriptions"   // of one session, or of all sessions of one shared process
)

// Sent says whether the server may have seen the request.
type Sent string

// A call is SentNo only where no byte of it reached a connection; SentYes where the server began to answer it.
const (
	SentNo      Sent = "no"
	SentUnknown Sent = "unknown"
	SentYes     Sent = "yes"
)

// Likelier returns which of two says rather that the server has seen a request.
func (s Sent) Likelier(other Sent) Sent {
	switch {
	case s == SentYes || other == SentYes:
		return SentYes
	case s == SentUnknown || other == SentUnknown:
		return SentUnknown
	}
	return SentNo
}

// Failure is the error of every stage: a call that got no answer of the server's. The handler turns it into the wire's
// shape by Code and Reason alone.
type Failure struct {
	Code       int
	Reason     Reason
	Sent       Sent
	Message    string        // one sentence for the agent, without addresses or secrets
	RetryAfter time.Duration // 0 where the daemon has no opinion
	Silent     bool          // of a timeout, and of a wait that the caller gave up: no byte of any call came from the server while it ran
	Waited     time.Duration // for the first byte of the answer, of a call whose caller left before it came
	Counted    bool          // the breaker knows of it already, as of a call that its agent has given up by notifications/cancelled, or need not
	Cause      error         // for the log only
}

// GiveUpAfter is how long an agent waits at least that gives a call up: who leaves sooner has changed its mind.
const GiveUpAfter = 10 * time.Second

// Draining returns the failure of what ends because the daemon stops, before it was sent.
func Draining() *Failure {
	return &Failure{
		Code: CodeUnavailable, Reason: ReasonDraining, Sent: SentNo, RetryAfter: drainRetryAfter, Message: "fluentd-perf is stopping",
	}
}

// drainRetryAfter is the Retry-After when the daemon stops: it is soon back, if it was restarted.
const drainRetryAfter = 2 * time.Second

// Error describes the failure for the operator, its cause included.
func (f *Failure) Error() string {
	if f.Cause != nil {
		return fmt.Sprintf("%s (%d %s): %v", f.Message, f.Code, f.Reason, f.Cause)
	}
	return fmt.Sprintf("%s (%d %s)", f.Message, f.Code, f.Reason)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// AsFailure returns err as the *Failure that every stage returns.
func AsFailure(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return InternalFailure(err)
}

// InternalFailure returns the failure of a call that the daemon lost itself.
func InternalFailure(err error) *Failure {
	return &Failure{
		Code: CodeBadGateway, Reason: ReasonBrokeOff, Sent: SentUnknown, Message: "the call broke off inside the daemon", Cause: err,
	}
}

// Canceled returns the failure of a call whose ctx has ended: a copy of the *Failure that is its cause, or else ReasonCanceled
// with code 0.
func Canceled(ctx context.Context, sent Sent) *Failure {
	var f *Failure
	if !errors.As(context.Cause(ctx), &f) {
		return &Failure{Reason: ReasonCanceled, Sent: sent, Message: "the agent left", Cause: context.Cause(ctx)}
	}
	own := *f
	own.Sent = sent
	return &own
}

// Stopped returns the failure of a call of many whose ctx was cancelled under it, as canceled says: the daemon is stopping.
func Stopped(ctx context.Context, canceled *Failure) *Failure {
	if f := Canceled(ctx, canceled.Sent); f.Reason != ReasonCanceled {
		return f
	}
	f := Draining()
	f.Sent, f.Cause = canceled.Sent, canceled
	return f
}
