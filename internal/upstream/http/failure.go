package http

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcp"
)

// fail ends the exchange and says why: because its context ended, else because of err.
func (x *exchange) fail(err error) *mcp.Failure {
	f := x.failure(err)
	f.Sent, f.Counted = x.facts.sent(), x.givenUp.Load()
	x.end(f)
	return f
}

// refuse ends the exchange because of what the server answered.
func (x *exchange) refuse(reason mcp.Reason, message string, cause error) *mcp.Failure {
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: reason, Sent: x.facts.sent(), Message: message, Cause: cause}
	x.end(f)
	return f
}

func (x *exchange) end(f *mcp.Failure) {
	if x.done {
		return
	}
	x.finish()
	if f.Code == mcp.CodeDeadlinePassed && f.Sent != mcp.SentNo && !x.answered {
		x.u.sendCancelled(x.call)
	}
	if f.Reason == mcp.ReasonConnect || f.Reason == mcp.ReasonConnectTimeout {
		x.u.moved.Store(nil)
	}
}

func (x *exchange) failure(err error) *mcp.Failure {
	if cause := context.Cause(x); cause != nil {
		return x.ended(cause)
	}
	if e, ok := errors.AsType[*expired](err); ok {
		return e.failure()
	}
	if !x.facts.conn && !x.facts.head {
		return x.notConnected(err)
	}
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Cause: err}
	switch {
	case x.facts.head:
		f.Message = "the server broke off in the middle of its answer"
	case errors.Is(err, http1.ErrHTTP2):
		f.Reason, f.Message = mcp.ReasonBadAnswer, "the server speaks HTTP/2 only"
	case x.facts.first.Load() != 0 && !brokenOff(err):
		f.Reason, f.Message = mcp.ReasonBadAnswer, "the server's answer is not HTTP"
	default:
		f.Message = "the server closed the connection without an answer"
	}
	return f
}

// ended is the failure of a context that ended.
func (x *exchange) ended(cause error) *mcp.Failure {
	if e, ok := errors.AsType[*expired](cause); ok {
		return e.failure()
	}
	if f, ok := errors.AsType[*mcp.Failure](cause); ok {
		own := *f // the cause is shared by all calls that it ended
		return &own
	}
	return x.left(cause)
}

// left is the failure of a call whose caller left.
func (x *exchange) left(cause error) *mcp.Failure {
	left := &mcp.Failure{Reason: mcp.ReasonCanceled, Message: "the caller left", Cause: cause}
	if left.Waited, left.Silent = x.watch.unanswered(); left.Silent {
		left.Message = "the server sent nothing for " + left.Waited.Round(time.Second).String() + ", and the caller gave up"
	}
	return left
}

// notReached begins the message of every failure to connect.
const notReached = "could not reach the server"

func (x *exchange) notConnected(err error) *mcp.Failure {
	f := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonConnect, Message: notReached, Cause: err}
	if timedOut(err) {
		f.Code, f.Reason, f.Message = mcp.CodeDeadlinePassed, mcp.ReasonConnectTimeout, notReached+": the attempt timed out"
		_, f.Silent = x.watch.unanswered()
	} else if i := slices.IndexFunc(unreachable, func(u clause) bool { return u.is(err) }); i >= 0 {
		f.Message += ": " + unreachable[i].says
	}
	return f
}

func timedOut(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout()
}

// brokenOff reports whether the error is of the connection, and not of what came over it.
func brokenOff(err error) bool {
	return oneOf(io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET)(err) || typed[net.Error](nil)(err)
}

// clause is what one kind of error says.
type clause struct {
	is   func(error) bool
	says string
}

// unreachable says in one clause, for the agent, why there is no connection: in words of our own, without addresses, names
// and what the server sent. The first that fits counts.
var unreachable = []clause{
	{oneOf(syscall.ECONNREFUSED), "connection refused"},
	{oneOf(syscall.ECONNRESET), "connection reset"},
	{oneOf(syscall.EHOSTUNREACH), "no route to its host"},
	{oneOf(syscall.ENETUNREACH), "its network is unreachable"},
	{oneOf(syscall.EMFILE, syscall.ENFILE), "too many open files here"},
	{oneOf(syscall.EADDRNOTAVAIL), "no local port is free"},
	{oneOf(http.ErrSchemeMismatch), "it does not speak TLS"},
	{oneOf(http1.ErrHTTP2), "it speaks HTTP/2 only"},
	{oneOf(io.EOF, io.ErrUnexpectedEOF), "it closed the connection"},
	{typed(func(e *net.DNSError) bool { return e.IsNotFound }), "its name is not known"},
	{typed[*net.DNSError](nil), "its name could not be looked up"},
	{typed(func(e x509.CertificateInvalidError) bool { return e.Reason == x509.Expired }), "its certificate has expired, or is not valid yet"},
	{typed[x509.HostnameError](nil), "its certificate is for another name"},
	{typed[x509.UnknownAuthorityError](nil), "its certificate is from an unknown authority"},
	{typed[*tls.CertificateVerificationError](nil), "its certificate is not valid"},
	{typed[tls.AlertError](nil), "the TLS handshake failed"},
	{typed[tls.RecordHeaderError](nil), "it does not speak TLS"},
}

// oneOf reports whether an error is one of these.
func oneOf(of ...error) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(of, func(known error) bool { return errors.Is(err, known) })
	}
}

// typed reports whether an error is of the type, and if holds is not nil, whether that holds of it.
func typed[E error](holds func(E) bool) func(error) bool {
	return func(err error) bool {
		e, ok := errors.AsType[E](err)
		return ok && (holds == nil || holds(e))
	}
}
