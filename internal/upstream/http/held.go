package http

import (
	"errors"
	"io"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// An answer that nobody shares is held so long and so far: what is whole by then is looked into and leaves in one piece.
const (
	heldSize = 64 << 10
	heldTime = time.Second // from its head
)

// firstRead is how much room a body of unknown length gets at first, in bytes.
const firstRead = 8 << 10

// errMore ends the holding of a body of which there is more, or may be: it is larger or slower than what is held.
var errMore = errors.New("there is more than is held")

// answerHeld reads a body of up to limit bytes whole, within that time of the head (0: without one). A larger or slower body
// is passed on as it comes from there, unread.
func (x *exchange) answerHeld(res *mcp.Result, length, limit int64, within time.Duration) (*mcp.Result, *mcp.Failure) {
	now := x.watch.now()
	x.bindWhole(now)
	h := &x.prefix
	switch {
	case length == 0:
		return x.complete(res, nil), nil
	case length > limit || !h.begin(x, length, limit):
		return x.answerRaw(res, nil), nil
	case !h.fill(now, within), h.err == errMore:
		return x.answerRaw(res, h), nil
	case h.err == io.EOF:
		return x.complete(res, h), nil
	}
	f := x.fail(h.err)
	h.close()
	return nil, f
}

// complete makes the result of a body that was read whole, of none where h is nil.
func (x *exchange) complete(res *mcp.Result, h *bodyPrefix) *mcp.Result {
	if h != nil {
		res.Body, res.Release = h.buf, h.close
	}
	x.scan(res)
	now := x.watch.now()
	x.whole(now)
	res.Timing = x.timing(now)
	x.finish()
	return res
}

// bodyPrefix is the first bytes of a body, in pooled memory.
type bodyPrefix struct {
	x     *exchange
	limit int64         // bytes
	done  chan struct{} // closed when a goroutine of the prefix's own reads no more, which owns the exchange's Read until then; nil: there is none

	mu   sync.Mutex    // guards the following until it reads no more
	buf  []byte        // what was read
	err  error         // io.EOF: buf is all; errMore; else a break. nil: it reads
	end  time.Duration // when it read last, by the exchange's clock
	late bool          // it reads once more at most: a read of net/http's cannot be given up, and is done by a goroutine
	out  int           // bytes of buf that were handed out
}

// begin gets memory for the first read of a body of that length, below 0 where that is unknown, and reports whether there
// was any.
func (h *bodyPrefix) begin(x *exchange, length, limit int64) bool {
	n := firstRead
	if length > 0 {
		n = int(length) + 1 // one more, so that the read that finds the end has somewhere to go
	}
	h.x, h.limit = x, limit
	h.buf = x.room(n)
	return h.buf != nil
}

// fill reads until it has come to the end, and reports whether it did within that time of now; 0: there is no bound.
func (h *bodyPrefix) fill(now, within time.Duration) bool {
	if within == 0 {
		h.run()
		return true
	}
	if x := h.x; x.compat == nil {
		x.direct.held = now + within
		h.run()
		x.direct.held = 0
		return true
	}
	h.done = make(chan struct{})
	go func() {
		defer close(h.done)
		h.run()
	}()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-h.done:
		return true
	case <-timer.C:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.late = true
	return false
}

func (h *bodyPrefix) run() {
	for more := true; more; {
		n, err := h.x.Read(h.buf[len(h.buf):cap(h.buf)]) // the room behind buf is nobody's but the reader's
		more = h.add(n, err)
	}
}

// add notes what was read, and reports whether more is to be read.
func (h *bodyPrefix) add(n int, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = h.buf[:len(h.buf)+n]
	if int64(len(h.buf)) > h.limit || err == nil && (h.late || len(h.buf) == cap(h.buf) && !h.grow()) {
		err = errMore
	}
	if err == nil {
		return true
	}
	h.err, h.end = err, h.x.watch.now()
	return false
}

// grow moves what was read to larger memory, if there is any.
func (h *bodyPrefix) grow() bool {
	larger := h.x.room(2 * cap(h.buf))
	if larger == nil {
		return false
	}
	larger = append(larger, h.buf...)
	h.x.free(h.buf)
	h.buf = larger
	return true
}

// read hands out what was read and not handed out yet. Where that is nothing it waits for the end of the reading, and returns
// the error that ended it once all has been handed out.
func (h *bodyPrefix) read(p []byte) (int, error) {
	n := h.take(p)
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	h.wait()
	if n = h.take(p); n > 0 {
		return n, nil
	}
	return 0, h.err
}

func (h *bodyPrefix) take(p []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := copy(p, h.buf[h.out:])
	h.out += n
	return n
}

// wait waits for the end of the reading: the next bytes have come, or the exchange has ended.
func (h *bodyPrefix) wait() {
	if h.done != nil {
		<-h.done
	}
}

// close frees the memory.
func (h *bodyPrefix) close() {
	h.wait()
	h.x.free(h.buf)
}

// room returns pooled memory, nil where all requests together may hold no more.
func (x *exchange) room(n int) []byte {
	buf := x.u.opts.Buffers.Get(n)
	if !x.u.opts.Buffered.Take(cap(buf)) {
		x.u.opts.Buffers.Put(buf)
		return nil
	}
	return buf
}

func (x *exchange) free(buf []byte) {
	x.u.opts.Buffered.Put(cap(buf))
	x.u.opts.Buffers.Put(buf)
}
