package stdio

import (
	"context"
	"io"
)

// Process is the running process of a server. How it is started, in which group, and what it leaves behind is the business
// of whoever starts it; here are its pipes.
type Process interface {
	Stdin() io.WriteCloser // Close makes a Write that blocks return
	Stdout() io.ReadCloser // Close makes a Read that blocks return
	Done() <-chan struct{} // closed when the process has ended
	Exit() string          // how it ended, in words; meaningful once Done is closed
	Killed() bool          // it made no exit of its own: somebody's signal or a limit ended it, and no crash, or nobody saw what did; meaningful once Done is closed
	Stderr() []string      // the last lines that it wrote to stderr, the oldest first, without secrets
	Stop()                 // begins to end it, and returns at once; more calls do nothing
	Gone() <-chan struct{} // closed when nothing is left of it and of what it has started
}

// stamped is a Process that says what was on disk (PoolOptions.OnDisk) right before its start. Its Start may have installed what was not
// there before, which does not make it another server.
type stamped interface{ OnDisk() string }

// Start starts one process. The error is of a process that could not be started at all; ctx bounds the start alone, the
// process outlives it. settled, if it is not nil, is called once when the process has answered its first message, or has
// failed to: it has started then, as far as others wait for their turn.
//
// A *CannotStart says that the next start would have the same error.
type Start func(ctx context.Context) (p Process, settled func(), err error)

// CannotStart is the error of a start that fails until somebody changes something: the command is not there, say. It comes at once
// and again and again, and says nothing of the server's health.
type CannotStart struct{ Err error }

// Error says why.
func (e *CannotStart) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *CannotStart) Unwrap() error { return e.Err }
