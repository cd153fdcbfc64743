package dispatch

import (
	"errors"
	"io"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// outcome is what came of one sending: an answer or a failure.
type outcome struct {
	result  *mcp.Result
	failure *mcp.Failure
	first   *mcp.Event // has been taken from the stream already
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
}

// goesOn reports whether the answer is a stream, or bytes that pass as they come.
func (o *outcome) goesOn() bool {
	return o.result != nil && (o.result.Events != nil || o.result.Raw != nil)
}

// What is waited for and kept until a stream's first event.
const (
	commentTime = 5 * time.Second // of nothing but comments: then it is handed on, so that the agent gets those
	commentSize = 4 << 10         // bytes of comments
)

// await takes the first event of a stream, comments before it excepted. Until then the call can be sent again without the
// agent's notice. A stream that fails is closed.
func (o *outcome) await() *mcp.Failure {
	defer func() {
		if o.first == nil { // or it panicked
			_ = o.result.Close()
		}
	}()
	since := time.Now()
	var comments []byte
	for {
		ev, err := o.result.Events.Next()
		if err != nil {
			return failureOf(err)
		}
		if !isComment(&ev) || time.Since(since) > commentTime {
			if comments != nil {
				ev.Raw = append(comments, ev.Raw...)
			}
			o.first = &ev
			return nil
		}
		if len(comments)+len(ev.Raw) <= commentSize {
			comments = append(comments, ev.Raw...)
		}
	}
}

// isComment reports whether an event means nothing to anybody.
func isComment(ev *mcp.Event) bool {
	return ev.Data == nil && !ev.HasID && ev.Retry == nil && len(ev.Name) == 0 && ev.Failure == nil && !ev.Partial && !ev.Answer
}

// failureOf returns the failure that err is, of a call or of its stream. The end of a stream is one where an answer is due.
func failureOf(err error) *mcp.Failure {
	var f *mcp.Failure
	switch {
	case errors.As(err, &f):
		return f
	case err == io.EOF:
		return &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes,
			Message: "the server's stream ended without a response", Cause: err,
		}
	}
	panic("dispatch: a caller returned an error that is no failure (this is a bug): " + err.Error())
}
