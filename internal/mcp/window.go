package mcp

import "io"

// idleBuffer is the size of the buffer in which a reader waits for the next bytes: small, since thousands wait.
const idleBuffer = 1 << 10

// maxEmptyReads is how many consecutive reads may return nothing at all, and no error, before the reader is given up.
const maxEmptyReads = 100

// window is the part of a byte stream that has been read and not yet been used up. What is held stays in one piece: it is
// moved or copied to a larger buffer only by fill. No byte is moved twice but to a buffer of twice the size, since fill
// is called only while all that is held belongs to one incomplete message, or to a line of one that passes in pieces.
type window struct {
	r          io.Reader
	pool       *BufferPool
	buf        []byte // of full length, nil before the first read
	start, end int    // buf[start:end] is held
	keep       bool   // much is still to come of a message: fill does not take a small buffer
	err        error  // of the reader, sticky
}

// held returns what has been read and not been dropped.
func (w *window) held() []byte { return w.buf[w.start:w.end] }

// drop uses up the first n bytes held. They stay readable until fill is called.
func (w *window) drop(n int) { w.start += n }

// fill reads once, and returns the reader's error if that gave nothing.
func (w *window) fill() error {
	if w.err != nil {
		return w.err
	}
	w.makeRoom()
	for range maxEmptyReads {
		n, err := w.r.Read(w.buf[w.end:])
		w.end += n
		w.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	w.err = io.ErrNoProgress
	return w.err
}

// makeRoom sees to it that there is a free byte behind what is held, in a buffer that is small if nothing is held.
func (w *window) makeRoom() {
	switch held := w.end - w.start; {
	case held == 0 && len(w.buf) != idleBuffer && !w.keep:
		w.pool.Put(w.buf)
		w.take(idleBuffer)
	case w.start > 0:
		copy(w.buf, w.held())
		w.start, w.end = 0, held
	case w.end == len(w.buf):
		old := w.buf
		w.take(2 * len(old))
		w.end = copy(w.buf, old)
		w.pool.Put(old)
	}
}

// take starts over with an empty buffer of n bytes.
func (w *window) take(n int) {
	b := w.pool.Get(n)
	w.buf, w.start, w.end = b[:n], 0, 0
}

// close gives the buffer back. Later reads fail.
func (w *window) close() {
	w.pool.Put(w.buf)
	w.buf, w.start, w.end = nil, 0, 0
	w.err = io.ErrClosedPipe
}
