package batch

import (
	"bytes"
	"io"
)

// replacer is a body that passes as it comes, with other bytes in place of every old: the id of a flight, which nobody
// else writes. A server that spells it in another way is not understood.
type replacer struct {
	src      io.ReadCloser
	old, new []byte
	buf      []byte
	held     []byte // a part of buf: read, and not yet known to be no old
	out      []byte // known and not yet handed out: a part of buf, or new
	gap      bool   // new comes after out
	err      error  // of src
}

// Read implements io.Reader. It holds nothing back but what may be the start of old.
func (r *replacer) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.gap {
			r.gap = false
			r.out = r.new
			continue
		}
		if r.look(); len(r.out) > 0 || r.gap {
			continue
		}
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// fill reads once more behind what is held, which is less than old: all else has been handed out.
func (r *replacer) fill() {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10+len(r.old))
	}
	n := copy(r.buf, r.held)
	read, err := r.src.Read(r.buf[n:])
	r.held, r.err = r.buf[:n+read], err
}

// look moves what is surely known from held to out.
func (r *replacer) look() {
	if i := bytes.Index(r.held, r.old); i >= 0 {
		r.out, r.held, r.gap = r.held[:i], r.held[i+len(r.old):], true
		return
	}
	known := len(r.held)
	if r.err == nil {
		known -= overlap(r.held, r.old)
	}
	r.out, r.held = r.held[:known], r.held[known:]
}

// overlap returns how many bytes at the end of b are the start of old.
func overlap(b, old []byte) int {
	for n := min(len(b), len(old)-1); n > 0; n-- {
		if bytes.HasSuffix(b, old[:n]) {
			return n
		}
	}
	return 0
}

// Close implements io.Closer.
func (r *replacer) Close() error { return r.src.Close() }
