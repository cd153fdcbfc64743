package http1

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// life is the context of a request. It is no child of Base, where each request would be entered in a table under a lock: who
// cancels a Base's requests looks through the connections.
type life struct {
	conn *serverConn

	mu       sync.Mutex // guards the following
	err      error
	done     chan struct{} // made when somebody asks for it
	children []*func()     // of context.AfterFunc and contexts made from this one
}

// cancel ends the context, once.
func (l *life) cancel(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	if l.done != nil {
		close(l.done)
	}
	children := l.children
	l.children = nil
	l.mu.Unlock()
	for _, f := range children {
		(*f)()
	}
}

// Deadline implements context.Context.
func (*life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (l *life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

// Err implements context.Context.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Value implements context.Context. It has those of Base, by which context.Cause finds Base's cause.
func (l *life) Value(key any) any {
	switch key {
	case connKey{}:
		return l.conn
	case http.LocalAddrContextKey:
		return l.conn.nc.LocalAddr()
	}
	return l.conn.server.o.Base.Value(key)
}

// AfterFunc is called by the context package, for contexts that are made from this one, and for context.AfterFunc: without it
// each would be a goroutine. f cancels one context, and is called by whoever cancels this one. That package holds a lock of the
// context meanwhile, so that f is not called here.
func (l *life) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		go f()
		return func() bool { return false }
	}
	defer l.mu.Unlock()
	l.children = append(l.children, &f)
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.Index(l.children, &f)
		if i < 0 {
			return false
		}
		l.children = slices.Delete(l.children, i, i+1)
		return true
	}
}

var _ context.Context = (*life)(nil)
