package http

import (
	"io"
	"time"

	"fluentd-perf/internal/mcp"
)

// Read reads the answer's body and bounds the wait. Between reads no time counts: an agent that reads slowly is no fault
// of the server's.
func (x *exchange) Read(p []byte) (int, error) {
	bounded := (!x.stream || !x.call.Lane.Long()) && (x.compat != nil || x.direct.answer.Waits())
	if bounded {
		x.waitForBytes()
	}
	n, err := x.body.Read(p)
	if err != nil && err != io.EOF && x.compat == nil {
		err = x.direct.failed(x, err)
	}
	if n > 0 {
		// Counted when they are read, not when they come: the connection itself does not tell an answer's bytes from those of
		// TLS, which something in front of a dead server still sends.
		x.u.progress.Add(1)
	}
	if bounded {
		x.watch.off()
	}
	return n, err
}

// waitForBytes arms the watch with the nearer of two bounds: the next bytes, and the end of the body or event.
func (x *exchange) waitForBytes() {
	now := x.watch.now()
	if x.begun {
		x.begun = false
		x.bindWhole(now)
	}
	l, d := &x.watch.limits, &x.direct
	idle, since := l.idle.after, x.u.progress.Load()
	if d.waited != 0 {
		idle, since = idle-d.waited, x.watch.since
		d.waited = 0
	}
	if left := x.bound - now; x.bound != 0 && left < idle {
		x.watch.waitFor(now, left, &l.whole, x.since)
	} else {
		x.watch.waitFor(now, idle, &l.idle, since)
	}
	if x.compat == nil {
		d.bound(x)
	}
}

// bindWhole begins the bound of a whole body or event.
func (x *exchange) bindWhole(now time.Duration) {
	x.bound, x.since = now+x.watch.limits.whole.after, x.u.progress.Load()
}

// resume takes the time since x.paused out of the bound of the whole: it was the reader's.
func (x *exchange) resume() {
	if x.bound != 0 {
		x.bound += x.watch.now() - x.paused
	}
}

// answerRaw makes the result pass the body as it comes, after what is held of it, if h is not nil.
func (x *exchange) answerRaw(res *mcp.Result, h *bodyPrefix) *mcp.Result {
	x.paused = x.watch.now()
	res.Raw = &raw{x: x, prefix: h}
	res.Timing = x.timing(x.paused)
	return res
}

// raw is a body that passes as it comes.
type raw struct {
	x      *exchange
	prefix *bodyPrefix // to be passed on first; nil where nothing is
	err    error
}

// Read returns a *mcp.Failure where the body breaks off.
func (r *raw) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.readPrefix(p)
	if err == errMore {
		r.x.resume()
		n, err = r.x.Read(p)
		r.x.paused = r.x.watch.now()
	}
	if err != nil {
		r.err = r.ended(err)
	}
	return n, r.err
}

// readPrefix passes on what is held, and returns the error that ended the holding when it has no more.
func (r *raw) readPrefix(p []byte) (int, error) {
	if r.prefix == nil {
		return 0, errMore
	}
	n, err := r.prefix.read(p)
	if err != nil {
		r.x.paused = r.prefix.end
		r.release()
	}
	return n, err
}

func (r *raw) ended(err error) error {
	if err != io.EOF {
		return r.x.fail(err)
	}
	r.x.whole(r.x.paused)
	r.x.finish()
	return io.EOF
}

// Close ends the body, whole or not.
func (r *raw) Close() error {
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	r.x.finish()
	r.release()
	return nil
}

func (r *raw) release() {
	if r.prefix != nil {
		r.prefix.close()
		r.prefix = nil
	}
}
