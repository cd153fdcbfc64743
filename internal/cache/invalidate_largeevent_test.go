package cache_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// largeStep is what a server says next to a tools/call.
type largeStep struct {
	ev  mcp.Event
	err error // the stream ends so
}

// largeSteps is a stream that goes on when the test says so.
type largeSteps struct{ next chan largeStep }

func (s *largeSteps) Next() (mcp.Event, error) {
	step, ok := <-s.next
	if !ok {
		return mcp.Event{}, io.EOF
	}
	return step.ev, step.err
}

func (*largeSteps) Close() error { return nil }

// The parts of an event that is too large to be held, as it comes from the way to the server, and events that are not.
var (
	largePiece = largeStep{ev: mcp.Event{Raw: []byte("data: {"), Partial: true}}
	largeLast  = largeStep{ev: mcp.Event{Raw: []byte("}\n\n"), Last: true, Answer: true}}
	smallEvent = largeStep{ev: mcp.Event{Raw: []byte(rulesData(rulesProgress)), Data: []byte(rulesProgress)}}
	smallLast  = largeStep{ev: mcp.Event{Raw: []byte("data: {}\n\n"), Data: []byte("{}"), Answer: true, Exact: true}}
	largeBreak = largeStep{err: &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}}
)

// TestWriteWithLargeEvents: nobody knows whether an event that was too large to look into was the answer of a tools/call or
// only came before it. What was kept by then is stale when it has passed, and so is what was kept between it and the answer,
// or the end of the stream.
func TestWriteWithLargeEvents(t *testing.T) {
	for name, x := range map[string]struct {
		steps []largeStep // in front of each, and after the last, the resource is read
		stale string      // whether what was read before the step is stale after it: y, or n
	}{
		"alone, then the end":             {[]largeStep{largePiece, largeLast, {err: io.EOF}}, "nyy"},
		"before the answer":               {[]largeStep{smallEvent, largePiece, largeLast, smallLast, {err: io.EOF}}, "nnyyn"},
		"before a large answer":           {[]largeStep{largePiece, largeLast, largePiece, largeLast, {err: io.EOF}}, "nynyy"},
		"and small ones before the end":   {[]largeStep{largePiece, largeLast, smallEvent, {err: io.EOF}}, "nyny"},
		"then a break":                    {[]largeStep{largePiece, largeLast, largeBreak}, "nyy"},
		"a break in it":                   {[]largeStep{largePiece, largePiece, largeBreak}, "nny"},
		"none, a small answer to the end": {[]largeStep{smallEvent, smallLast, smallEvent, {err: io.EOF}}, "nynn"},
	} {
		t.Run(name, func(t *testing.T) {
			rulesTest(t, writeOptions(), func(r *rulesRig) { testLargeEvents(r, x.steps, x.stale) })
		})
	}
}

func testLargeEvents(r *rulesRig, steps []largeStep, stale string) {
	s := &largeSteps{make(chan largeStep)}
	r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
		if c.Method() == mcp.MethodToolsCall {
			return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: s}, nil
		}
		return rulesWhole(200, rulesAnswer(n, c, "")), nil
	})
	a := rulesRead("file:///a")
	r.asks("before the call", a)
	res, err := r.caller.Call(r.Context(), rulesTool("write").call(r))
	if err != nil {
		r.Fatal(err)
	}
	kept := r.asks("sent", a).n
	for i, step := range steps {
		go func() { s.next <- step }()
		_, _ = res.Events.Next()
		synctest.Wait()
		if what := strings.Repeat("|", i+1); stale[i] == 'y' {
			kept = r.asks(what, a).n
		} else {
			r.hits(what, kept, a)
		}
	}
	if err := res.Close(); err != nil {
		r.Error(err)
	}
	r.hits("closed after its end", kept, a)
}
