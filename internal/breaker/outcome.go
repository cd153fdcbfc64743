package breaker

import (
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"fluentd-perf/internal/mcp"
)

// outcome is what came of one sending: an answer or a failure.
type outcome struct {
	result  *mcp.Result
	failure *mcp.Failure
	from    *endpoint  // which gave it
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

// goesOn reports whether the answer is a stream, or bytes that pass as they come.
func (o *outcome) goesOn() bool {
	return o.result != nil && (o.result.Events != nil || o.result.Raw != nil)
}

// verdictOfAnswer is what an answer says of the server (design/resilience.md, "Breaker"). One that answers in JSON-RPC is
// alive, whatever the status, and so is one that refuses (4xx). What cannot be read counts by its status.
func verdictOfAnswer(c *mcp.Call, res *mcp.Result) (Verdict, error) {
	switch {
	case uncounted(c) || losesSession(c, res):
		return Ignored, nil
	case res.Status >= http.StatusInternalServerError && owedNone(c):
		return Ignored, nil // it came over HTTP, and no answer was due
	case res.Status >= http.StatusInternalServerError && !answered(c, res):
		return Failed, statusError(res.Status)
	}
	return Succeeded, nil
}

// owedNone reports whether no JSON-RPC answer is due to a call: some servers say 501 to a DELETE or 500 to a notification, and
// answer every request.
func owedNone(c *mcp.Call) bool {
	return c.Lane == mcp.LaneNotification || c.Lane == mcp.LaneResponse || c.Lane == mcp.LaneEnd
}

// losesSession reports whether an answer surely says that the server does not know the call's session.
func losesSession(c *mcp.Call, res *mcp.Result) bool {
	ids := c.Header[sessionHeader]
	return c.Era == mcp.EraLegacy && len(ids) > 0 && ids[0] != "" && mcp.LossOf(c, res) == mcp.LossSure
}

// answered reports whether an answer is the call's in JSON-RPC. Of an array and of a body that was not read the ids are not
// known: any answer is one to them.
func answered(c *mcp.Call, res *mcp.Result) bool {
	if c.AnsweredBy(res) {
		return true
	}
	switch {
	case c.Lane != mcp.LaneOpaque && c.Lane != mcp.LaneBatch:
		return false
	case res.Message.Kind == mcp.KindBatch:
		return hasAnswer(res.Said())
	}
	return isAnswer(res.Message.Kind)
}

func isAnswer(k mcp.Kind) bool { return k == mcp.KindResult || k == mcp.KindError }

// hasAnswer reports whether there is an answer in an array.
func hasAnswer(array []byte) bool {
	elements, err := mcp.Elements(nil, array, mcp.MostElements)
	if err != nil {
		return false
	}
	for _, e := range elements {
		var m mcp.Message
		if mcp.Scan(e.Of(array), &m) == nil && isAnswer(m.Kind) {
			return true
		}
	}
	return false
}

// verdictOf is what a failure says of the server (design/resilience.md, "Breaker"). One that answers rubbish, or with a
// redirect elsewhere, is reachable: to leave it alone would mend nothing. A timeout counts only if no byte of any call
// came meanwhile; so does a call that its agent gives up after a while, or a server that hangs would be found out only by
// timeouts that are longer than agents wait. All that is the daemon's own or the agent's says nothing.
func verdictOf(f *mcp.Failure) Verdict {
	if f.Counted {
		return Ignored
	}
	switch f.Reason {
	case mcp.ReasonConnect:
		return verdictOfConnect(f)
	case mcp.ReasonBrokeOff:
		return Failed
	case mcp.ReasonConnectTimeout, mcp.ReasonFirstByte, mcp.ReasonIdle, mcp.ReasonCallTimeout:
		if f.Silent {
			return Failed
		}
	case mcp.ReasonCanceled:
		if gaveUp(f) {
			return Failed
		}
	case mcp.ReasonBadAnswer, mcp.ReasonRedirect:
		return Succeeded
	}
	return Ignored
}

// patienceOfAgents is how long an agent waits at least that gives a call up: who leaves sooner has changed its mind.
const patienceOfAgents = 10 * time.Second

// gaveUp reports whether an agent gave up a call of which the server, silent to everybody, had sent no byte.
func gaveUp(f *mcp.Failure) bool {
	return f.Reason == mcp.ReasonCanceled && f.Silent && f.Waited >= patienceOfAgents
}

// giveUp counts the call that a cancellation gives up, if it was silent for long enough: the TypeScript SDK says so, and leaves
// the POST open. It reports whether there was one. Such a call says nothing to a breaker that is not closed: it is of an
// earlier time, or is the probe, whose permit has a deadline.
func (s *Stage) giveUp(c *mcp.Call, among set) (counted bool) {
	for _, e := range s.endpoints.list {
		if !among.has(e) || e.GivenUp == nil {
			continue
		}
		f := e.GivenUp(c, patienceOfAgents)
		if f == nil {
			continue
		}
		counted = true
		e.counts(Failed, f)
		s.note(e, f)
		if e.state() != Closed || e.Circuit == nil {
			continue
		}
		if p, ok := e.Circuit.Allow(); ok {
			p.Done(Failed, f)
			s.endpoints.spread()
		}
	}
	return counted
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
