package listener

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"
)

const (
	maxURIs     = 256             // of one partition
	reopenAfter = 5 * time.Second // at least between two openings because of other uris
	minPause    = time.Second     // after a failure
	maxPause    = 30 * time.Second
)

// subscription is what one partition is subscribed to: from an answer that was stored until the partition has had no request
// for idleAfter, is refused, or the daemon ends.
type subscription struct {
	l         *Listener
	partition partition
	client    *client
	ctx       context.Context
	cancel    context.CancelFunc
	begun     time.Time
	touched   atomic.Int64 // when the last request passed, in nanoseconds after begun

	// Owned by run.
	announced   *filter            // what the server announces; nil: it has not been asked yet
	asked       *filter            // what a stream was asked for last
	closeStream context.CancelFunc // closes the open stream
	ended       <-chan error       // says why that has ended, once; nil: none is open
	tried       time.Time          // when that was opened, or something was tried last

	// Listener.mu guards the following.
	idle *time.Timer
	uris []string    // at most maxURIs, the one that was stored last at the end
	due  *time.Timer // the server is to be asked: what it announces, or for a stream
	wait time.Time   // not before
}

func newSubscription(l *Listener, p partition, c *client) *subscription {
	s := &subscription{l: l, partition: p, client: c, begun: time.Now(), due: time.NewTimer(0)}
	s.ctx, s.cancel = context.WithCancel(l.base)
	s.idle = time.AfterFunc(idleAfter, s.expire)
	return s
}

func (s *subscription) touch() { s.touched.Store(int64(time.Since(s.begun))) }

// expire ends the subscription, if it is idle.
func (s *subscription) expire() {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if rest := idleAfter - time.Since(s.begun) + time.Duration(s.touched.Load()); rest > 0 && s.ctx.Err() == nil {
		s.idle.Reset(rest)
	} else {
		s.l.endLocked(s)
	}
}

// addLocked notes that an answer about the uri was stored; "" is none. Of too many the one goes that was stored longest ago.
func (s *subscription) addLocked(uri string) {
	if uri == "" {
		return
	}
	known := len(s.uris)
	s.uris = slices.DeleteFunc(s.uris, func(u string) bool { return u == uri })
	if len(s.uris) == known {
		s.due.Reset(time.Until(s.wait))
	}
	s.uris = append(slices.Delete(s.uris, 0, max(0, len(s.uris)+1-maxURIs)), uri)
}

// take returns what to subscribe to now. Other uris that come from now on have to wait.
func (s *subscription) take() *filter {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.due.Stop()
	s.wait = time.Now().Add(reopenAfter)
	f := *s.announced
	if f.takesURIs {
		f.URIs = slices.Sorted(slices.Values(s.uris))
	}
	return &f
}

// again has the server asked after d, whatever comes.
func (s *subscription) again(d time.Duration) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.wait = time.Now().Add(d)
	s.due.Reset(d)
}

// run asks what the server announces and holds a stream for that, until the subscription ends or the server refuses. After a
// refusal it makes do with less: with the stream that is open, or without uris. Pauses grow with failures, and begin anew
// when a stream has been open for as long as the longest of them.
func (s *subscription) run() {
	for failures := 0; s.ctx.Err() == nil; {
		switch err := s.next(); {
		case err == nil:
		case err == errRefused && s.ended != nil:
			s.again(refusedFor)
		case err == errRefused && s.asked != nil && len(s.asked.URIs) > 0 && s.asked.lists():
			s.announced.takesURIs = false
			s.again(0)
		case err == errRefused:
			s.l.end(s, true)
		default:
			if time.Since(s.tried) >= maxPause {
				failures = 0
			}
			s.again(pause(failures))
			failures++
		}
	}
	s.l.end(s, false)
}

// next waits for what comes first: that the server is to be asked, or the end of the stream. It returns what came of the
// asking, or why the stream ended.
func (s *subscription) next() error {
	select {
	case <-s.ctx.Done():
		return nil
	case err := <-s.ended:
		s.ended = nil
		return err
	case <-s.due.C:
	}
	s.tried = time.Now()
	if s.announced == nil {
		return s.discover()
	}
	return s.reopen()
}

// pause returns how long to wait after so many failures in a row before: at most 2, 4, 8, 16 and then maxPause seconds, and
// at least half of that, by chance, so that many daemons do not come back to a server all at once.
func pause(failures int) time.Duration {
	longest := min(2*minPause<<min(failures, 10), maxPause)
	return longest/2 + rand.N(longest/2+1)
}
