package stdio

import (
	"context"
	"fmt"
	"time"

	"fluentd-perf/internal/mcp"
)

// The backoff of starts after processes that ended by themselves.
const (
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
	goodLife     = time.Minute // of a process, that ends it
)

// backoff is how long a start waits. Guarded by total.mu.
//
// A process that ends by itself before it was asked anything but its first message says that the server does not work: such ends in a
// row hold back the starts of all sessions, for longer and longer. One that was asked something has started well, and what it was
// asked is one session's: the others' starts wait until a second after its own at most, so that a request which ends every process is
// not one start after another. How often a session may be opened again is bounded by itself (package session/streamable).
type backoff struct {
	failures int       // in a row: processes that ended by themselves within goodLife, and before they were asked anything
	until    time.Time // when the next start may be
	last     string    // how the last of them ended
}

// failed notes that one ended by itself before it was asked anything, and how. After the first one the next is started at once.
func (b *backoff) failed(how string) {
	b.failures++
	b.last = how
	if b.failures > 1 {
		b.until = time.Now().Add(min(firstBackoff<<min(b.failures-2, 8), lastBackoff))
	}
}

// crashed notes that one ended by itself that had been asked something, after so long a life.
func (b *backoff) crashed(life time.Duration) {
	if next := time.Now().Add(firstBackoff - life); next.After(b.until) {
		b.until = next
	}
}

// refusal is the failure of a start for which more than a moment is to be waited: who asks is told at once why, and when the next one
// is, instead of waiting without a word. nil: it may wait.
func (b *backoff) refusal() *mcp.Failure {
	wait := time.Until(b.until)
	if wait <= firstBackoff {
		return nil
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonStartFailed, Sent: mcp.SentNo, RetryAfter: wait, Counted: true,
		Message: fmt.Sprintf("%s. It has ended early %d times in a row, and is started again in %v", b.last, b.failures, wait.Round(time.Second)),
	}
}

// ended takes notice of the end of a process. One that did not answer its first message, and a spare, have told no agent anything.
func (p *Pool) ended(l *Lease, f *mcp.Failure) {
	itself := f.Reason != mcp.ReasonCanceled && f.Reason != mcp.ReasonDraining
	if told := p.countEnd(l, f, itself); told && itself {
		p.opts.Replaced()
	}
}

// countEnd counts the end of a process for the backoff, and reports whether an agent could have been told something by it.
func (p *Pool) countEnd(l *Lease, f *mcp.Failure, itself bool) (told bool) {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	life := time.Since(l.started)
	switch {
	case life >= goodLife:
		p.backoff = backoff{}
	case !itself:
	case l.ready && l.conn.requests.Load() > 1: // the first message was one
		p.backoff.crashed(life)
	default:
		p.backoff.failed(f.Message + l.conn.said())
	}
	return l.ready && !l.spare
}

// refusal returns why no process may be started now, nil where one may.
func (p *Pool) refusal() *mcp.Failure {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	return p.backoff.refusal()
}

// pause waits until a start may be, or returns why nobody is to wait for that.
func (p *Pool) pause(ctx context.Context) *mcp.Failure {
	p.total.mu.Lock()
	wait, f := time.Until(p.backoff.until), p.backoff.refusal()
	p.total.mu.Unlock()
	if f != nil {
		return f
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return mcp.Canceled(ctx, mcp.SentNo)
	}
	return nil
}
