package dispatch

import (
	"errors"
	"net/http"
	"strconv"
	"syscall"

	"fluentd-perf/internal/mcp"
)

// health is what a call says of the endpoint that it went to (docs/resilience.md).
type health uint8

const (
	unknown health = iota // nothing: the caller left, say
	healthy               // it works
	failing
)

// What makes an endpoint look bad beside the failures of its own calls. Their reasons are for people only.
const (
	reasonSlow    = mcp.Reason("slow_call")
	reasonGivenUp = mcp.Reason("given_up")
)

var errSlow = &mcp.Failure{Code: mcp.CodeDeadlinePassed, Reason: reasonSlow, Message: "the call took longer than breaker.slow_call"}

// badStatus is an answer that counts by its status, 500 or above.
func badStatus(status int) *mcp.Failure {
	text := strconv.Itoa(status)
	return &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.Reason("http_" + text), Sent: mcp.SentYes, Message: "the server answered with status " + text}
}

// healthOfAnswer is what an answer says of the endpoint, and of a failing one why. One that answers in JSON-RPC is alive,
// whatever the status, and so is one that refuses (4xx). What cannot be read counts by its status.
func healthOfAnswer(c *mcp.Call, res *mcp.Result) (health, *mcp.Failure) {
	switch {
	case uncounted(c) || losesSession(c, res) || res.Remembered:
		return unknown, nil
	case res.Status < http.StatusInternalServerError:
		return healthy, nil
	case noAnswerDue(c):
		return unknown, nil // it came over HTTP
	case !answered(c, res):
		return failing, badStatus(res.Status)
	}
	return healthy, nil
}

// noAnswerDue reports whether no JSON-RPC answer is due to a call: some servers say 501 to a DELETE or 500 to a notification, and
// answer every request.
func noAnswerDue(c *mcp.Call) bool {
	return c.Lane == mcp.LaneNotification || c.Lane == mcp.LaneResponse || c.Lane == mcp.LaneEnd
}

// losesSession reports whether an answer surely says that the server does not know the call's session.
func losesSession(c *mcp.Call, res *mcp.Result) bool {
	return c.Era == mcp.EraLegacy && c.Header.Get(sessionHeader) != "" && mcp.LossOf(c, res) == mcp.LossSure
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
		return hasAnswer(res.Scanned())
	}
	return isAnswer(res.Message.Kind)
}

func isAnswer(k mcp.Kind) bool { return k == mcp.KindResult || k == mcp.KindError }

// hasAnswer reports whether there is an answer in an array.
func hasAnswer(array []byte) bool {
	elements, err := mcp.Elements(nil, array, mcp.MaxElements)
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

// healthOfFailure is what a failure says of the endpoint. One that answers rubbish, or with a redirect elsewhere, is reachable:
// not to call it would help nobody. A timeout counts only if no byte of any call came meanwhile; so does a call that its agent
// gives up after a while, or a server that hangs would be found out only by timeouts that are longer than agents wait. All
// that is the daemon's own or the agent's says nothing.
func healthOfFailure(f *mcp.Failure) health {
	switch {
	case f.Counted:
		return unknown
	case f.Reason == mcp.ReasonBadAnswer, f.Reason == mcp.ReasonRedirect:
		return healthy
	case f.Reason == mcp.ReasonConnect && !ownFault(f), f.Reason == mcp.ReasonBrokeOff, f.Reason == mcp.ReasonStartFailed, isTimeout(f.Reason) && f.Silent, gaveUp(f):
		return failing
	}
	return unknown
}

// ownFault reports whether a connection failed because this machine has no descriptor or port left.
func ownFault(f *mcp.Failure) bool {
	return errors.Is(f, syscall.EMFILE) || errors.Is(f, syscall.ENFILE) || errors.Is(f, syscall.EADDRNOTAVAIL)
}

// isTimeout reports whether the server took too long.
func isTimeout(r mcp.Reason) bool {
	switch r {
	case mcp.ReasonConnectTimeout, mcp.ReasonFirstByte, mcp.ReasonIdle, mcp.ReasonCallTimeout:
		return true
	}
	return false
}

// gaveUp reports whether an agent gave up a call of which the server, silent to everybody, had sent no byte.
func gaveUp(f *mcp.Failure) bool {
	return f.Reason == mcp.ReasonCanceled && f.Silent && f.Waited >= mcp.GiveUpAfter
}

// giveUp counts the call that a cancellation gives up, if it was silent for long enough: the TypeScript SDK says so, and leaves
// the POST open. It reports whether there was one. Such a call says nothing to a breaker that is not closed: it is of an
// earlier time, or is the probe, which has a deadline.
func (s *Stage) giveUp(c *mcp.Call, among set) (counted bool) {
	for _, e := range s.endpoints {
		if !among.has(e) || e.GivenUp == nil {
			continue
		}
		f := e.GivenUp(c, mcp.GiveUpAfter)
		if f == nil {
			continue
		}
		counted = true
		s.note(e, failing, f)
		if !e.Breaker.Closed() {
			continue
		}
		if ticket, _, ok := e.Breaker.Allow(false); ok {
			e.Breaker.Report(ticket, f)
		}
	}
	return counted
}
