package http1

import (
	"errors"
	"fmt"
)

// Sent says whether the server may have seen a request.
type Sent uint8

// What is known of a request that failed.
const (
	SentNo      Sent = iota // not a byte of it was written
	SentUnknown             // some of it was written
	SentYes                 // the server began to answer
)

// Error is why there is no whole answer. The end of the call's context is context.Cause of that, a deadline that has passed
// os.ErrDeadlineExceeded.
type Error struct {
	Sent Sent
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Errors of answers.
var (
	// ErrMalformed is an answer that is no HTTP/1.1, or of which one would have to guess what it means.
	ErrMalformed = errors.New("the answer is not valid HTTP/1.1")
	// ErrHTTP2 is a server that speaks HTTP/2 to whoever speaks HTTP/1.1 to it.
	ErrHTTP2 = errors.New("the server speaks HTTP/2 only")
)

// errStale is of a connection that was found dead before a byte of the request was written to it.
var errStale = errors.New("the idle connection was closed by the server")

// errLongHead is of a head over its bound.
var errLongHead = malformed("a head of more than 64 KiB")

// malformed returns an ErrMalformed that says what is wrong. It does not quote the server.
func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }
