package mcp

import (
	"bytes"
	"errors"
	"io"
)

// ErrLineTooLong says that a line is over the limit of its LineReader, which goes on with the line after it.
var ErrLineTooLong = errors.New("mcp: line too long")

// LineReader splits a byte stream into lines: the messages of the stdio transport, which are "delimited by newlines" and
// contain none (2026-07-28, basic/transports/stdio). It does not copy a line that arrived whole, takes time linear in the
// bytes however they are cut, waits in a buffer of 1 KiB and needs a larger one only while a line is incomplete. It is
// used from one goroutine.
type LineReader struct {
	w        window
	limit    int
	searched int  // the first bytes held that are known to have no newline
	skipping bool // the line that is being read was too long
}

// NewLineReader returns a LineReader of r's lines, which may be of up to limit bytes, line ends not counted. Buffers come
// from the pool, which may be nil.
func NewLineReader(r io.Reader, pool *BufferPool, limit int) *LineReader {
	return &LineReader{w: window{r: r, pool: pool}, limit: limit}
}

// Next returns the next line without its "\n" or "\r\n", valid until Next or Close is called again. Empty lines are lines;
// so is what stands behind the last newline, if it is not empty. A line over the limit is ErrLineTooLong, as soon as that
// is known, and the Next after it skips the rest. At the end of the stream Next returns io.EOF; another error of the
// reader is returned as it is, and again by every later Next.
func (r *LineReader) Next() ([]byte, error) {
	for {
		held := r.w.held()
		if i := bytes.IndexByte(held[r.searched:], '\n'); i >= 0 {
			line := held[:r.searched+i]
			r.drop(len(line) + 1)
			if r.skipping {
				r.skipping = false
				continue
			}
			return r.checked(bytes.TrimSuffix(line, []byte("\r")))
		}
		r.searched = len(held)
		if r.skipping {
			r.drop(len(held))
		} else if len(held)-1 > r.limit { // the last byte may be half of a line end
			r.drop(len(held))
			r.skipping = true
			return nil, ErrLineTooLong
		}
		if err := r.w.fill(); err != nil {
			if rest := r.w.held(); err == io.EOF && len(rest) > 0 {
				r.drop(len(rest))
				return r.checked(rest)
			}
			return nil, err
		}
	}
}

// Close gives the buffer back; the line that Next returned last is gone with it. It does not close the stream. More calls
// of it do nothing.
func (r *LineReader) Close() {
	r.drop(0)
	r.w.close()
}

func (r *LineReader) drop(n int) {
	r.w.drop(n)
	r.searched = 0
}

func (r *LineReader) checked(line []byte) ([]byte, error) {
	if len(line) > r.limit {
		return nil, ErrLineTooLong
	}
	return line[:len(line):len(line)], nil
}
