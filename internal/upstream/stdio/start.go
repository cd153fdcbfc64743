package stdio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// start is one start of a process, with its first message.
type start struct {
	pool   *Pool
	lease  *Lease
	first  []byte // initialize, or server/discover
	m      mcp.Message
	form   string          // the params of an initialize, byte for byte
	onDisk string          // PoolOptions.OnDisk from before it; guarded by total.mu until the process runs
	begun  time.Time       // when there was room for it
	base   context.Context // the pool's, or of one that may be given up
	behind bool            // nobody has asked for it

	untried bool          // its time was over before it had its turn: it says nothing of the server; run's own
	done    chan struct{} // closed when the following two are there
	answer  []byte        // to the first message, raw
	failure *mcp.Failure

	mu   sync.Mutex // guards the following
	over bool       // done, and taken or left
	left bool       // nobody waits for it
	conn *conn      // to the process; nil until that runs
}

// newStart makes a start that has room. It is to be begun.
func (p *Pool) newStart(l *Lease, first []byte, m *mcp.Message, onDisk string) *start {
	l.onDisk = onDisk
	return &start{
		pool: p, lease: l, first: first, m: *m, form: string(m.Params.Of(first)), onDisk: onDisk,
		begun: time.Now(), base: p.base, done: make(chan struct{}),
	}
}

// run starts the process, sends the first message and waits for the answer.
func (s *start) run() {
	p := s.pool
	ctx, cancel := context.WithTimeout(s.base, p.opts.StartTimeout)
	defer cancel()
	if s.lease.abandon != nil {
		defer s.lease.abandon(nil)
	}
	process, settled, f := s.launch(ctx)
	if f != nil {
		s.untried = ctx.Err() != nil
		s.finish(nil, s.failureOf(f))
		p.drop(s.lease)
		return
	}
	p.running.Go(func() { p.attend(s.lease, process) }) // run itself is one of them: the pool waits
	answer, f := s.ask(ctx)
	settled()
	if f != nil {
		f = s.failureOf(f)
	}
	s.finish(answer, f)
}

// failureOf returns the failure of a start: whatever it was, one that was given up for another process has not failed by itself.
func (s *start) failureOf(f *mcp.Failure) *mcp.Failure {
	if s.base.Err() != nil && s.pool.base.Err() == nil {
		return mcp.Canceled(s.base, mcp.SentNo)
	}
	return f
}

// launch waits out the backoff and starts the process.
func (s *start) launch(ctx context.Context) (Process, func(), *mcp.Failure) {
	p := s.pool
	if f := p.pause(ctx); f != nil {
		return nil, nil, f
	}
	run := p.opts.Start
	if s.behind {
		run = p.opts.StartBehind
	}
	process, settled, err := run(ctx)
	if err != nil && ctx.Err() == context.DeadlineExceeded && s.base.Err() == nil {
		message := "the server's process could not be started within " + p.opts.StartTimeout.String() + " (processes.start_timeout)"
		if doing := p.opts.Doing(); doing != "" {
			message += ": " + doing
		}
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonStartFailed, Sent: mcp.SentNo, Cause: err, Message: message,
		}
	}
	if err != nil {
		var permanent *CannotStart
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonStartFailed, Sent: mcp.SentNo, Cause: err, Counted: errors.As(err, &permanent),
			Message: "the server's process could not be started: " + err.Error(),
		}
	}
	l := s.lease
	c := newConn(process, &p.conns, l.take, func(f *mcp.Failure) { p.ended(l, f) })
	s.mu.Lock()
	s.conn = c
	s.mu.Unlock()
	p.total.mu.Lock()
	if own, ok := process.(stamped); ok {
		s.onDisk, l.onDisk = own.OnDisk(), own.OnDisk()
	}
	p.starts++
	l.number = p.starts
	l.conn, l.started = c, time.Now()
	evicted := l.evicted
	p.total.mu.Unlock()
	c.run()
	if evicted { // the pool was closed meanwhile
		c.end(mcp.Draining())
	}
	if settled == nil {
		settled = func() {}
	}
	return process, settled, nil
}

// ask sends the first message and returns its answer.
func (s *start) ask(ctx context.Context) ([]byte, *mcp.Failure) {
	c := s.lease.conn
	answered := make(chan []byte, 1)
	id := s.pool.conns.ids.Next()
	f := c.request(ctx, id, s.first, &s.m, func(data []byte, m *mcp.Message) {
		if m.Kind.IsAnswer() {
			answered <- data
		}
	})
	if f == nil {
		select {
		case answer := <-answered:
			return answer, nil
		case <-ctx.Done():
			c.forget(id)
		case <-c.ended:
			select {
			case answer := <-answered: // it came just before
				return answer, nil
			default:
			}
		}
	}
	select {
	case <-c.ended:
		return nil, s.ended(c)
	default:
	}
	if s.pool.base.Err() != nil {
		return nil, mcp.Draining()
	}
	return nil, &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonStartFailed, Sent: mcp.SentNo,
		Message: "the server's process did not answer within " + s.pool.opts.StartTimeout.String() + " (processes.start_timeout)" + s.lease.conn.said(),
	}
}

// ended is the failure of a start whose process ended.
func (s *start) ended(c *conn) *mcp.Failure {
	f := c.failed(mcp.SentNo)
	if f.Reason == mcp.ReasonBrokeOff {
		f.Reason = mcp.ReasonStartFailed
		f.Message += " before it answered" + c.said()
	}
	return f
}

// said is what a process has written that may say why it did not answer, for the message of an error.
func (c *conn) said() string {
	text := c.junkClause()
	if lines := c.p.Stderr(); len(lines) > 0 {
		text += "; its stderr ends with: " + strings.Join(lines[max(len(lines)-shownLines, 0):], " | ")
	}
	return text
}

// junkClause names what a process wrote to stdout in the place of messages, for the message of an error: one that writes its answer over
// several lines, or in another framing, waits for ever for what it has been asked next.
func (c *conn) junkClause() string {
	if junk := c.skipped.Load(); junk != nil {
		return fmt.Sprintf("; the first line on its stdout that is no message: %q", *junk)
	}
	return ""
}

// finish hands the outcome to who waits, or keeps the process as a spare where nobody does.
func (s *start) finish(answer []byte, f *mcp.Failure) {
	p := s.pool
	if f == nil && s.lease.setReady(s.onDisk) {
		p.opts.Replaced()
	}
	s.mu.Lock()
	s.answer, s.failure, s.over = answer, f, true
	left := s.left
	s.mu.Unlock()
	s.report(left)
	close(s.done)
	p.dropLeft(s)
	switch {
	case f != nil:
		if s.base.Err() == nil && !(s.behind && s.untried) {
			p.opts.Log.Warn("a stdio server did not start", "upstream", p.opts.Name, "error", f)
		}
		s.lease.Release()
	case s.lease.session:
		s.settled(left)
	}
}

// report tells of the outcome, before those hear of it who wait. What the daemon ended itself is none.
func (s *start) report(left bool) {
	o := &s.pool.opts
	if s.failure == nil {
		begun := s.begun
		if s.behind { // it was in nobody's way while it waited for its turn
			begun = s.lease.started
		}
		o.Started(s.lease.conn.p, time.Since(begun), s.behind && left)
	}
	switch {
	case !s.lease.session:
	case s.failure == nil:
		o.Initialized(s.m.Params.Of(s.first), s.onDisk, s.answer)
	case s.base.Err() == nil && !s.untried:
		o.Failed()
	}
}

// settled has others started behind this one, which has answered, unless it comes to nothing.
func (s *start) settled(left bool) {
	switch {
	case left && !s.keep():
		return
	case !left && isGood(s.answer):
		s.pool.used(s.first, &s.m)
	}
	s.pool.replenish()
}

// dropLeft forgets a start that is over.
func (p *Pool) dropLeft(s *start) {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	p.left = slices.DeleteFunc(p.left, func(other *start) bool { return other == s })
	if s.behind {
		p.ahead.starting = false
	}
}

// wait waits for the start as long as an agent does.
func (s *start) wait(ctx context.Context) *mcp.Failure {
	timer := time.NewTimer(s.pool.opts.Handshake)
	defer timer.Stop()
	var f *mcp.Failure
	select {
	case <-s.done:
		return s.failure
	case <-ctx.Done():
		f = mcp.Canceled(ctx, mcp.SentNo)
	case <-timer.C:
		f = s.pool.stillStarting(s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return s.failure
	}
	s.left = true
	p := s.pool
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	p.left = append(p.left, s)
	return f
}

// stillStarting is the failure of who does not wait any longer for a start; nil is one for which there is no room yet.
func (p *Pool) stillStarting(s *start) *mcp.Failure {
	took := p.opts.Handshake
	if s != nil {
		took = time.Since(s.begun).Round(100 * time.Millisecond)
	}
	message := fmt.Sprintf("the server's process is still starting after %v; the start goes on", took)
	if s != nil {
		s.mu.Lock()
		c := s.conn
		s.mu.Unlock()
		if c == nil {
			if doing := p.opts.Doing(); doing != "" {
				message += ": " + doing
			}
		} else {
			if lines := c.p.Stderr(); len(lines) > 0 {
				message += ": " + lines[len(lines)-1]
			}
			message += c.junkClause()
		}
	}
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonStillStarting, Sent: mcp.SentNo, RetryAfter: time.Second, Message: message,
	}
}
