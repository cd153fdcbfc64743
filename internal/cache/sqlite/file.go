package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// closeTimeout is how long a close waits for a disk that hangs.
const closeTimeout = 5 * time.Second

// file is one opened file: a few readers and one writer, each a goroutine with a connection of its own. Callers hand them
// what is to be done and wait, so that a disk that hangs keeps nobody longer than the caller's time.
type file struct {
	tier     *adapter
	contents *contents
	bytes    atomic.Int64 // of the file's pages in use; what is still in the -wal counts as well

	reads   chan *readCall
	urgent  chan *change // what must not wait behind writes
	changes chan *change
	reading atomic.Int32 // readers that answer
	writing atomic.Int32 // 1 while the writer writes
	broken  chan error   // why the file cannot be used on

	quit  chan struct{} // closed: the goroutines end
	ended chan struct{} // closed: they have ended
	err   error         // of the writer's end and of closing the connections; set before ended is closed
}

// newFile starts the goroutines; conns are the writer's and the readers'.
func (t *adapter) newFile(conns []*conn, contents *contents) *file {
	f := &file{
		tier: t, contents: contents,
		reads: make(chan *readCall, 256), urgent: make(chan *change, 64), changes: make(chan *change, 64),
		broken: make(chan error, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	var group sync.WaitGroup
	group.Go(func() { f.err = (&writer{file: f, conn: conns[0]}).run() })
	for _, c := range conns[1:] {
		group.Go(func() { f.answer(c) })
	}
	go func() {
		group.Wait()
		f.err = errors.Join(f.err, closeAll(conns[1:]), conns[0].close()) // the last one writes the -wal back and removes it
		close(f.ended)
	}()
	return f
}

// close ends the goroutines and waits for them.
func (f *file) close() error {
	close(f.quit)
	select {
	case <-f.ended:
		return f.err
	case <-time.After(closeTimeout):
		return errors.New("the disk does not answer")
	}
}

// failed looks at an error of a connection: where it has made the file useless, another one is opened.
func (f *file) failed(err error) {
	if damageOf(err) == none {
		return
	}
	select {
	case f.broken <- err:
	default: // it is known
	}
}

// begin hands a read or a change to those who do it.
func begin[T any](ctx context.Context, f *file, queue chan<- T, call T) error {
	f.tier.calls.Add(1)
	select {
	case queue <- call:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-f.quit:
		return errUnavailable
	}
}

// wait returns what came of a call that was begun.
func (f *file) wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ended:
		return errUnavailable
	}
}

// pages is how many pages the file has, and how many of them nothing is in.
func pages(c *conn) (all, free int64, err error) {
	if all, err = c.number("PRAGMA page_count"); err == nil {
		free, err = c.number("PRAGMA freelist_count")
	}
	return all, free, err
}
