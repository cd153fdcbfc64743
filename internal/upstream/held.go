package upstream

import (
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

// answerHeld holds a body up to heldSize and heldTime. What is larger or slower passes as it comes from there, unread.
func (x *exchange) answerHeld(res *mcp.Result, length int64) (*mcp.Result, *mcp.Failure) {
	x.clock = x.watch.now()
	x.bindWhole(x.clock)
	if length > heldSize {
		x.answerRaw(res, nil)
		return res, nil
	}
	if length == 0 { // of events, which are read to their end
		length = -1
	}
	first, ok := x.firstRoom(length)
	if !ok {
		x.answerRaw(res, nil)
		return res, nil
	}
	h := &x.hold
	h.start(x, first)
	if !h.ended(heldTime) {
		res.Raw = &raw{x: x, hold: h, left: x.watch.now()}
		res.Timing = x.timing(x.watch.now())
		return res, nil
	}
	switch h.err {
	case io.EOF:
		return x.came(res, h.buf), nil
	case errTooLarge:
		x.answerRaw(res, h.buf)
		return res, nil
	}
	f := x.fail(h.err)
	x.free(h.buf)
	return nil, f
}

// hold reads the first heldSize bytes of a body on a goroutine of its own, which owns the exchange's Read until done is
// closed: a read of net/http's cannot be given up.
type hold struct {
	x    *exchange
	done chan struct{} // closed when it reads no more: buf and err do not change after that
	came sync.Cond     // something has come, or it is done

	mu  sync.Mutex    // guards the following until done
	buf []byte        // in pooled memory
	err error         // io.EOF: buf is all; errTooLarge: there is more; else a break
	out int           // bytes of buf that were handed out
	end time.Duration // when it read last, by the exchange's clock
}

func (h *hold) start(x *exchange, first []byte) {
	h.x, h.done, h.buf = x, make(chan struct{}), first
	h.came.L = &h.mu
	go h.run()
}

// ended waits for the end of the reading, and reports whether it came in time.
func (h *hold) ended(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-h.done:
		return true
	case <-timer.C:
		return false
	}
}

func (h *hold) run() {
	defer close(h.done)
	for h.fill() {
	}
	h.end = h.x.watch.now()
}

// fill reads once, and reports whether there is more to read. The room behind buf is nobody's but the reader's.
func (h *hold) fill() bool {
	n, err := h.x.Read(h.buf[len(h.buf):cap(h.buf)])
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.came.Broadcast()
	h.buf = h.buf[:len(h.buf)+n]
	switch {
	case err == nil && len(h.buf) > heldSize:
		err = errTooLarge
	case err == nil && len(h.buf) == cap(h.buf):
		if larger, ok := h.x.grow(h.buf); ok {
			h.buf = larger
		} else {
			err = errTooLarge
		}
	}
	h.err = err
	return err == nil
}

// read hands out what was read and not handed out yet; nothing, and the end of the reading, where there is no more.
func (h *hold) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.out == len(h.buf) && h.err == nil {
		h.came.Wait()
	}
	n := copy(p, h.buf[h.out:])
	h.out += n
	if n > 0 {
		return n, nil
	}
	return 0, h.err
}

// close waits for the end of the reading, which the end of the exchange has brought about, and frees the memory.
func (h *hold) close() {
	<-h.done
	h.x.free(h.buf)
}
