package stdio

import (
	"context"
	"fmt"
	"time"

	"fluentd-perf/internal/mcp"
)

// signOfLife is how long a process may take at least to send anything after it was asked whether it answers.
const signOfLife = 5 * time.Second

// ping is what asks the process of a session. A modern process is asked by its server/discover.
var ping = []byte(`{"jsonrpc":"2.0","id":0,"method":"ping"}`)

// check is the question to a silent process whether it still answers.
type check struct {
	life context.CancelFunc // a message has come
	over chan struct{}      // closed when it is known: where the process does not answer, its conn has ended
}

// Check asks the process whether it still answers, in the background, after the call with that id has timed out: it comes before Forget.
// Any message is a sign of life, whoever it is for; a process that sends nothing for 5 s more is ended. One that has sent a message since
// that call is not asked, nor one that is being asked. So a process is asked once in a silence: that ends by a message, or with the
// process.
//
// Nor is one asked to which another call was sent before that is within its own bound, and not given up: a server that does one thing
// after another is silent for as long as that takes. The end of that bound is a Check of its own.
func (l *Lease) Check(id []byte) { l.check(id, signOfLife) }

// GaveUp is Check for a call whose agent gave it up, by leaving or by a cancellation, after it had waited so long. Within
// mcp.GiveUpAfter nothing is asked: such an agent has changed its mind, and agents that do so often must not have the process asked
// all the time.
//
// An agent may leave long before a timeout, and a server that does one thing after another cannot answer while a tool runs. So the
// process has until `timeouts.first_byte` after the call was sent, and 5 s at least: no less than where agents wait for the timeout.
func (l *Lease) GaveUp(id []byte, waited time.Duration) {
	l.conn.giveUp(id)
	if waited >= mcp.GiveUpAfter {
		l.check(id, max(signOfLife, l.pool.opts.FirstByte-waited))
	}
}

// Checking returns what is closed when a check that goes on is over, nil where none does. What is sent to the process before that
// ends with it if it does not answer.
func (l *Lease) Checking() <-chan struct{} {
	if k := l.conn.check.Load(); k != nil {
		return k.over
	}
	return nil
}

// awaitCheck waits until no check goes on.
func (l *Lease) awaitCheck(ctx context.Context) *mcp.Failure {
	checking := l.Checking()
	if checking == nil {
		return nil
	}
	select {
	case <-checking:
		return nil
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentNo)
	}
}

// check begins a check after the call with that id, for which the process has so long.
func (l *Lease) check(id []byte, within time.Duration) {
	c := l.conn
	since, silent := c.silentSince(id)
	if !silent {
		return
	}
	ctx, cancel := context.WithTimeout(l.pool.base, within)
	k := &check{life: cancel, over: make(chan struct{})}
	if !c.check.CompareAndSwap(nil, k) {
		cancel()
		return
	}
	// While a message is given away, which may wait for an agent, those behind it are not read: silence says nothing then.
	if c.giving.Load() || l.Received() != since || !l.pool.run(func() { l.ask(ctx, k, since, within) }) {
		c.endCheck(k)
	}
}

// ask asks the process, and ends it where nothing comes until the end of ctx.
func (l *Lease) ask(ctx context.Context, k *check, since uint64, within time.Duration) {
	c := l.conn
	defer c.endCheck(k)
	question := ping
	if l.discover != nil {
		question = l.discover
	}
	var m mcp.Message
	if err := mcp.Scan(question, &m); err != nil {
		panic("stdio: a request of the daemon's own is none (this is a bug): " + err.Error())
	}
	own, f := l.Request(ctx, question, &m, func([]byte, *mcp.Message) {}) // that something has come is enough
	defer c.forget(own)
	if f == nil {
		select {
		case <-c.ended:
		case <-ctx.Done():
		}
	}
	if l.Received() == since && l.pool.base.Err() == nil {
		c.end(silent(within)) // nothing where it has ended
	}
}

// silentSince returns what had been received when the request with an id of the daemon's own was sent. It reports false where that has its
// answer, or where the process has something to do that was written before it and for which somebody waits still. A listen is nothing
// to do.
func (c *conn) silentSince(id []byte) (received uint64, silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, p := c.findLocked(id)
	if p == nil || p.place == 0 {
		return 0, false
	}
	for _, other := range c.pending {
		if other.place != 0 && other.place < p.place && !other.givenUp && !other.listen {
			return 0, false
		}
	}
	return p.since, true
}

// giveUp notes that nobody waits for the answer to a request any more, though it may still come.
func (c *conn) giveUp(id []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, p := c.findLocked(id); p != nil {
		p.givenUp = true
	}
}

// endCheck lets those go on who wait for the end of a check.
func (c *conn) endCheck(k *check) {
	k.life()
	c.check.Store(nil)
	close(k.over)
}

// noteReceived counts a message that has come: a sign of life.
func (c *conn) noteReceived() {
	c.received.Add(1)
	if k := c.check.Load(); k != nil {
		k.life()
	}
}

// silent is why a conn ends whose process does not answer.
func silent(after time.Duration) *mcp.Failure {
	return brokeOff(fmt.Sprintf("the server's process did not answer a call, nor the daemon for %v after that, and was ended", after.Round(time.Millisecond)))
}
