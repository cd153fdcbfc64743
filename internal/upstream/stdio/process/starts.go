package process

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Limits of Starts that nobody configures.
const (
	startSlot  = 5 * time.Second // how long a start that says nothing holds its slot
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// Starts bounds how many servers start at the same time, over all of them, in the order in which they are asked for, and how
// soon one is tried again that the system could not start. What nobody waits for is started one at a time, beside those, while nothing
// starts or is to be started that somebody does. What becomes of a process that has started is no business of theirs.
type Starts struct {
	ready func(context.Context, Spec) error // waits for what a start needs, before it takes a slot
	start func(context.Context, Spec) (*Process, error)
	look  func(Spec) error    // says what is missing before a start
	slots *semaphore.Weighted // first come, first served

	mu     sync.Mutex // guards the following
	states map[string]*startState
	wanted int             // starts that have a slot or wait for one
	behind bool            // one that nobody waits for is going on
	queue  []chan struct{} // of others like it: the first one is closed when its turn has come
}

// startState is what is known of the last starts of one server.
type startState struct {
	backoff   time.Duration // the next
	notBefore time.Time
	command   error // the *CommandError of the last one; nil where it was no such error
}

// NewStarts returns Starts by a guard, that many at the same time; 0: as many as there are processors, at least 2.
func NewStarts(g *Guard, concurrency int) *Starts {
	if concurrency <= 0 {
		concurrency = max(2, runtime.GOMAXPROCS(0))
	}
	ready := func(ctx context.Context, s Spec) error {
		_, err := g.awaitScope(ctx, s)
		return err
	}
	return &Starts{
		ready: ready, start: g.Start, look: findCommand, slots: semaphore.NewWeighted(int64(concurrency)), states: map[string]*startState{},
	}
}

// TooSoonError says that a server failed lately and is not started again yet.
type TooSoonError struct{ After time.Duration }

func (e *TooSoonError) Error() string {
	return fmt.Sprintf("it failed lately and is started again in %v", e.After.Round(time.Millisecond))
}

// findCommand is Starts.look.
func findCommand(spec Spec) error {
	_, err := spec.resolve()
	return err
}

// Start starts a server when it is its turn. The key is whose history counts: an identity, so that what was changed begins anew.
// Errors are those of Guard.Start, and *TooSoonError. What is missing is looked for each time, before it is anybody's turn: the error
// comes at once for as long as it is missing, and the start works when it is there. A program that is there and that the system cannot
// run is tried once a second. The caller calls release when the server has said something or is given up; the slot comes free then, or
// after 5 s.
func (s *Starts) Start(ctx context.Context, key string, spec Spec) (p *Process, release func(), err error) {
	return s.inTurn(ctx, key, spec, s.acquire)
}

// StartBehind is Start for a server that nobody waits for.
func (s *Starts) StartBehind(ctx context.Context, key string, spec Spec) (p *Process, release func(), err error) {
	return s.inTurn(ctx, key, spec, s.acquireBehind)
}

// inTurn starts a server when acquire says so, which returns what gives the turn back.
func (s *Starts) inTurn(ctx context.Context, key string, spec Spec, acquire func(context.Context) (func(), error)) (*Process, func(), error) {
	if err := s.look(spec); err != nil {
		return nil, nil, err
	}
	if err := s.mayStart(key); err != nil {
		return nil, nil, err
	}
	if err := s.ready(ctx, spec); err != nil {
		return nil, nil, err
	}
	free, err := acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	free = sync.OnceFunc(free)
	p, err := s.start(ctx, spec)
	s.note(key, err)
	if err != nil {
		free()
		return nil, nil, err
	}
	timer := time.AfterFunc(startSlot, free)
	return p, func() {
		timer.Stop()
		free()
	}, nil
}

// acquire waits for a slot.
func (s *Starts) acquire(ctx context.Context) (free func(), err error) {
	s.mu.Lock()
	s.wanted++
	s.mu.Unlock()
	if err := s.slots.Acquire(ctx, 1); err != nil {
		s.settled()
		return nil, err
	}
	return func() {
		s.slots.Release(1)
		s.settled()
	}, nil
}

// settled notes that a start is over which somebody waited for.
func (s *Starts) settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted--
	s.nextLocked()
}

// acquireBehind waits until nobody waits for a start.
func (s *Starts) acquireBehind(ctx context.Context) (free func(), err error) {
	turn := make(chan struct{})
	s.mu.Lock()
	s.queue = append(s.queue, turn)
	s.nextLocked()
	s.mu.Unlock()
	select {
	case <-turn:
		return s.freeBehind, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.queue, turn)
	if i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // its turn had just come
		s.freeBehind()
	}
	return nil, ctx.Err()
}

func (s *Starts) freeBehind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind = false
	s.nextLocked()
}

// nextLocked lets the next one start that nobody waits for, if it may.
func (s *Starts) nextLocked() {
	if s.wanted > 0 || s.behind || len(s.queue) == 0 {
		return
	}
	s.behind = true
	close(s.queue[0])
	s.queue = s.queue[1:]
}

func (s *Starts) mayStart(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.states[key]
	if state == nil {
		return nil
	}
	wait := time.Until(state.notBefore)
	switch {
	case wait <= 0:
		return nil
	case state.command != nil:
		return state.command
	}
	return &TooSoonError{wait}
}

// note remembers how a start went. What the caller or the daemon's end did is no error of it.
func (s *Starts) note(key string, err error) {
	var command *CommandError
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		delete(s.states, key)
	case errors.As(err, &command):
		s.states[key] = &startState{notBefore: time.Now().Add(minBackoff), command: err}
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed):
	default:
		state := s.stateLocked(key)
		state.backoff, state.command = min(max(2*state.backoff, minBackoff), maxBackoff), nil
		state.notBefore = time.Now().Add(state.backoff)
	}
}

func (s *Starts) stateLocked(key string) *startState {
	state := s.states[key]
	if state == nil {
		state = &startState{}
		s.states[key] = state
	}
	return state
}
