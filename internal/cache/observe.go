package cache

import (
	"io"
	"sync"

	"fluentd-perf/internal/mcp"
)

// observer learns from a stream that passes.
type observer interface {
	// sees is called with each event before that is handed on, and returns true where nothing that follows matters: over is
	// called then.
	sees(ev mcp.Event) (last bool)
	// over is called once, at the end of the stream at the latest.
	over()
}

// observed is a stream with an observer. Close may be called while Next waits.
type observed struct {
	mcp.Events
	observer
	once sync.Once
}

// drained is an observed stream on which answers are still to come when the daemon stops.
type drained struct {
	*observed
	mcp.Drainer
}

func observe(events mcp.Events, by observer) mcp.Events {
	o := &observed{Events: events, observer: by}
	if d, ok := events.(mcp.Drainer); ok {
		return &drained{o, d}
	}
	return o
}

// Next returns the next event.
func (o *observed) Next() (mcp.Event, error) {
	ev, err := o.Events.Next()
	if err != nil || o.sees(ev) {
		o.once.Do(o.over)
	}
	return ev, err
}

// Close ends the stream.
func (o *observed) Close() error {
	o.once.Do(o.over)
	return o.Events.Close()
}

// whenAnswered calls changed when the call has been answered: now, or at a stream's answer or end, or at the end of a body that
// passes as it comes (read your writes). An opaque call may have several answers: changed is called at
// each of them and at the end. A nil res is a call that failed.
func whenAnswered(c *mcp.Call, res *mcp.Result, changed func()) {
	switch {
	case res != nil && res.Events != nil:
		res.Events = observe(res.Events, &answerObserver{changed, c.Lane == mcp.LaneOpaque})
	case res != nil && res.Raw != nil:
		res.Raw = &observedBody{res.Raw, sync.OnceFunc(changed)}
	default:
		changed()
	}
}

// answerObserver waits for the answers on a stream.
type answerObserver struct {
	changed func()
	many    bool // answers
}

func (a *answerObserver) sees(ev mcp.Event) bool {
	switch {
	case !ev.Answer:
		return false
	case !a.many && !ev.Last:
		return true
	}
	a.changed() // one of several, or a large event that was not looked into
	return false
}

func (a *answerObserver) over() { a.changed() }

// observedBody is a body of which the end changes something.
type observedBody struct {
	io.ReadCloser
	over func() // does nothing the second time
}

// Read reads on.
func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.over()
	}
	return n, err
}

// Close ends the body.
func (b *observedBody) Close() error {
	b.over()
	return b.ReadCloser.Close()
}
