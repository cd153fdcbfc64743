package http1

import "sync"

// bufferSize is the room for a head, and for the part of a body that goes with it in one write or comes with it in one read.
const bufferSize = 16 << 10

// buffer is memory that is used for one write or one read, and given back while a call waits.
type buffer [bufferSize]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// putBuffer gives a buffer back. Nobody may have a slice of it any more: built with the tag poison, what is in it is
// overwritten, so that tests find out.
func putBuffer(b *buffer) {
	overwrite(b)
	buffers.Put(b)
}
