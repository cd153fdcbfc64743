package daemon

import (
	"errors"
	"time"

	"fluentd-perf/internal/mcp"
)

// Bounds of a drain.
const (
	refuseBefore      = 5 * time.Second // before the drain's deadline: a call that begins by then may not end in time
	drainTick         = 10 * time.Millisecond
	unansweredGrace   = 5 * time.Second // at the drain, for what gets no answer, once no call is in flight
	errorFlushTimeout = 2 * time.Second // after the drain's deadline, for the errors to leave
	stageTimeout      = 6 * time.Second // for what the stages have under way on their own: ending sessions takes five
	tierTimeoutAtEnd  = 5 * time.Second // for what waits for the tiers
	noticeTimeout     = 6 * time.Second // for servers to be told that calls were cancelled
)

// stopAccepting closes the listeners, and returns when every connection that they had accepted is known to the server. What the
// kernel has accepted and the daemon has not would be reset with its listener: it is taken first, and served. Only what
// comes in the microsecond between the two is lost. A socket of the service manager's goes on listening: this was the
// daemon's copy of it, and what waits there is the next daemon's.
func (d *daemon) stopAccepting() {
	d.server.Unbind() // those that wait for room are known too, then
	for _, l := range d.listeners {
		queued := &queuedListener{Listener: l}
		if d.ownSocket {
			queued.conns = acceptQueued(l)
		}
		_ = l.Close() // that it is closed is all that is wanted
		d.accept(queued)
	}
	d.accepting.Wait()
}

// drain stops the daemon, the start order read backwards: listeners close, streams end, what comes on open connections is
// served until shortly before the deadline, calls in flight finish, and connections close when they are idle; at the
// deadline the calls left get their error; then the flights end, what waits for the tiers is written, and the upstreams
// close.
//
// http.Server.Shutdown has no part in it: once it has begun, net/http answers nothing that comes on an open connection.
func (d *daemon) drain(timeout time.Duration) error {
	d.draining.Store(true)
	d.drainSessions()
	d.stopAccepting()
	d.log.Info("draining; another signal, a second from now or later, ends it at once", "for", timeout.String())
	d.takeOver.end()
	d.handler.Drain()
	for _, p := range d.routed() {
		p.drain()
	}
	if !d.served(timeout - refuseBefore) {
		d.handler.Refuse()
		if !d.served(min(timeout, refuseBefore)) {
			d.log.Warn("the drain's deadline has passed, calls in flight end now")
		}
	}
	late := mcp.Draining()
	late.Sent = mcp.SentUnknown // the stages make it true to the facts
	d.abandon(late)
	d.served(errorFlushTimeout)
	err := d.server.Close()
	if d.admin != nil {
		err = errors.Join(err, d.admin.Close())
	}
	d.onEveryPipeline((*pipeline).close, stageTimeout)
	d.closeSessions() // before the state directory is let go of
	d.closeCache(tierTimeoutAtEnd)
	d.onEveryPipeline((*pipeline).disconnect, noticeTimeout)
	d.closeProcesses()
	if d.metrics != nil {
		err = errors.Join(err, d.metrics.Close())
	}
	d.log.Info("fluentd-perf has stopped")
	return err
}

// served waits until no connection is left, at most for so long, and reports whether that came true. Connections close as
// soon as no call is in flight: until then an agent may need one for the answer to a request of its server. Where nothing is
// left but what gets no answer, a notification to a server that hangs, say, it is not waited for longer than unansweredGrace:
// nobody waits for it either.
func (d *daemon) served(limit time.Duration) bool {
	late := time.NewTimer(limit)
	defer late.Stop()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	awaited := time.Now() // when something was left that gets an answer, or may
	for {
		now, calls := time.Now(), d.handler.InFlight()
		if calls == 0 {
			d.server.CloseIdle()
		}
		switch open := d.server.Open(); {
		case open == 0:
			return true
		case calls > 0 || open > d.handler.OneWay():
			awaited = now
		case now.Sub(awaited) >= unansweredGrace:
			return true
		}
		select {
		case <-tick.C:
		case <-late.C:
			return false
		}
	}
}

// onEveryPipeline does end with all pipelines at the same time, those excepted that end by themselves, and leaves those behind that
// take longer than limit: what waits for the tiers has to be written before the service manager kills, however many
// upstreams there are.
func (d *daemon) onEveryPipeline(end func(*pipeline), limit time.Duration) {
	ends := []func(){d.retiring.Wait}
	for _, p := range d.all() {
		ends = append(ends, func() { end(p) })
	}
	ended := make(chan struct{}, len(ends))
	for _, f := range ends {
		go func() {
			f()
			ended <- struct{}{}
		}()
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for n := range ends {
		select {
		case <-ended:
		case <-late.C:
			d.log.Warn("calls of the daemon's own have not ended and are left behind", "upstreams", len(ends)-n)
			return
		}
	}
}
