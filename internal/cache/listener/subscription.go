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
	partition Partition
	client    *client
	ctx       context.Context
	cancel    context.CancelFunc
	begun     time.Time
	touched   atomic.Int64 // when the last request passed, in nanoseconds after begun

	// Owned by run.
	announced *filter   // what the server announces; nil: it has not been asked yet
	asked     *filter   // what a stream was asked for last
	stream    *stream   // nil: none is open
	tried     time.Time // when that was opened, or something was tried last

	// Listener.mu guards the following.
	idle *time.Timer
	uris []string    // at most maxURIs, the one that was stored last at the end
	due  *time.Timer // the server is to be asked: what it announces, or for a stream
	wait time.Time   // not before
}

func newSubscription(l *Listener, p Partition, c *client) *subscription {
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
	rest := idleAfter - time.Since(s.begun) + time.Duration(s.touched.Load())
	if rest <= 0 || s.ctx.Err() != nil {
		s.l.endLocked(s)
		return
	}
	s.idle.Reset(rest)
}

// addLocked notes that an answer about the uri was stored; "" is none. Of too many the one goes that was stored longest ago.
func (s *subscription) addLocked(uri string) {
	if uri == "" {
		return
	}
	i := slices.Index(s.uris, uri)
	if i < 0 {
		s.due.Reset(time.Until(s.wait))
	}
	if i < 0 && len(s.uris) == maxURIs {
		i = 0
	}
	if i >= 0 {
		s.uris = slices.Delete(s.uris, i, i+1)
	}
	s.uris = append(s.uris, uri)
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

// outcome is what became of a request or a stream.
type outcome uint8

const (
	succeeded outcome = iota
	failed            // no answer, or the stream has ended: to be tried again after a pause
	refused           // the server does not want it
)

// run asks what the server announces and holds a stream for that, until the subscription ends or the server refuses.
// Pauses grow with failures, and begin anew when a stream has been open for as long as the longest of them.
func (s *subscription) run() {
	defer s.end()
	for failures := 0; s.ctx.Err() == nil; {
		switch s.next() {
		case failed:
			if time.Since(s.tried) >= maxPause {
				failures = 0
			}
			s.again(pause(failures))
			failures++
		case refused:
			if !s.carryOn() {
				s.l.decline(s)
				return
			}
		}
	}
}

func (s *subscription) end() {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.endLocked(s)
}

// next waits for what comes first: that the server is to be asked, or the end of the stream.
func (s *subscription) next() outcome {
	var ended <-chan outcome
	if s.stream != nil {
		ended = s.stream.ended
	}
	select {
	case <-s.ctx.Done():
		return succeeded
	case o := <-ended:
		s.stream = nil
		return o
	case <-s.due.C:
	}
	s.tried = time.Now()
	if s.announced == nil {
		return s.discover()
	}
	return s.reopen()
}

// reopen opens a stream for what is to be subscribed to now. The one that was open before is closed only then, so that no
// change is missed.
func (s *subscription) reopen() outcome {
	f := s.take()
	if len(f.URIs) == 0 && (s.stream != nil || !f.lists()) {
		return succeeded // until a uri comes
	}
	s.asked = f
	next, o := s.open(f)
	if next == nil {
		return o
	}
	if s.stream != nil {
		s.stream.cancel()
	}
	s.stream = next
	return succeeded
}

// carryOn makes do with less after a refusal: with the stream that is open, or without uris. It returns false if that is
// nothing.
func (s *subscription) carryOn() bool {
	switch {
	case s.stream != nil:
		s.again(refusedFor)
	case s.asked != nil && len(s.asked.URIs) > 0 && s.asked.lists():
		s.announced.takesURIs = false
		s.again(0)
	default:
		return false
	}
	return true
}

// pause returns how long to wait after so many failures in a row before: at most 2, 4, 8, 16 and then maxPause seconds, and
// at least half of that, by chance, so that many daemons do not come back to a server all at once.
func pause(failures int) time.Duration {
	most := min(2*minPause<<min(failures, 10), maxPause)
	return most/2 + rand.N(most/2+1)
}
