package upstream

import (
	"io"
	"time"

	"fluentd-perf/internal/mcp"
)

// bodyKind says how the waits for a body are bounded.
type bodyKind uint8

const (
	wholeBody    bodyKind = iota // idle, and call for all of it
	eventStream                  // idle, and call for each event
	opaqueStream                 // idle: events that are not looked at
)

// Read reads the answer's body and bounds the wait. Between reads no time counts: an agent that reads slowly is no fault
// of the server's.
func (x *exchange) Read(p []byte) (int, error) {
	if x.kind != wholeBody && x.call.Lane.Long() {
		return x.receive(p)
	}
	x.waitForBytes()
	n, err := x.receive(p)
	x.watch.off()
	if n > 0 && x.kind == eventStream && x.bound == 0 {
		x.begun = true
	}
	return n, err
}

// receive reads what has come. It counts bytes when they are read, not when they come: the connection itself does not tell
// an answer's bytes from those of TLS, which something in front of a dead server still sends.
func (x *exchange) receive(p []byte) (int, error) {
	n, err := x.body.Read(p)
	if n > 0 {
		x.u.heard.Add(1)
	}
	return n, err
}

// waitForBytes arms the watch with the nearer of two bounds: the next bytes, and the end of the body or event.
func (x *exchange) waitForBytes() {
	now := x.clock
	if x.clock = 0; now == 0 {
		now = x.watch.now()
	}
	if x.begun {
		x.begun = false
		x.bindWhole(now)
	}
	l := &x.limits
	if left := x.bound - now; x.bound != 0 && left < l.idle {
		x.watch.waitOn(now, left, expired{phase: waitingForWhole, after: l.whole, since: x.since})
		return
	}
	x.watch.waitAt(now, l.idle, expired{phase: waitingForBytes, after: l.idle, key: l.idleKey})
}

// bindWhole begins the bound of a whole body or event.
func (x *exchange) bindWhole(now time.Duration) {
	x.bound, x.since = now+x.limits.whole, x.u.heard.Load()
}

// nextEvent takes the bound off: no byte of the next event has been asked for.
func (x *exchange) nextEvent() { x.bound, x.begun = 0, false }

// answerRaw makes the result pass the body as it comes, after what has been read of it.
func (x *exchange) answerRaw(res *mcp.Result, head []byte) {
	now := x.watch.now()
	res.Raw = &raw{x: x, head: head, buf: head, left: now}
	res.Timing = x.timing(now)
}

// raw is a body that passes as it comes.
type raw struct {
	x    *exchange
	head []byte        // read already, not yet passed on
	buf  []byte        // the pooled memory that head lies in
	hold *hold         // what still reads the start of the body, to be passed on first; nil where nothing does
	left time.Duration // when the last read ended
	err  error
}

// Read returns a *mcp.Failure where the body breaks off.
func (r *raw) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if n, err := r.readHold(p); n > 0 || err != nil {
		return n, err
	}
	r.resume()
	n, err := r.x.Read(p)
	r.left = r.x.watch.now()
	if err != nil {
		r.err = r.ended(err)
	}
	return n, r.err
}

// readHold passes on what was held. It returns nothing where the rest is still to be read.
func (r *raw) readHold(p []byte) (int, error) {
	if r.hold == nil {
		return 0, nil
	}
	n, err := r.hold.read(p)
	if n > 0 || err == nil {
		return n, nil
	}
	r.hold.close()
	r.left = r.hold.end // the time since was the reader's
	r.hold = nil
	if err == errTooLarge {
		return 0, nil
	}
	r.err = r.ended(err)
	return 0, r.err
}

// resume takes the time that the reader took out of the bound of the whole.
func (r *raw) resume() {
	x := r.x
	x.clock = x.watch.now()
	if x.bound != 0 {
		x.bound += x.clock - r.left
	}
}

func (r *raw) ended(err error) error {
	if err != io.EOF {
		return r.x.fail(err)
	}
	r.x.whole(r.left)
	r.x.finish()
	return io.EOF
}

// Close ends the body, whole or not.
func (r *raw) Close() error {
	if r.err == nil {
		r.err = io.ErrClosedPipe
	}
	r.x.finish()
	if r.hold != nil {
		r.hold.close()
		r.hold = nil
	}
	if r.buf != nil {
		r.x.free(r.buf)
		r.buf, r.head = nil, nil
	}
	return nil
}
