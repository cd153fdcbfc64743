package multiplex

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	codeInvalidParams  = -32602
	codeInvalidRequest = mcp.CodeInvalidRequest
	codeNoMethod       = -32601

	tellTime = 5 * time.Second  // for a message of the daemon's own
	maxTells = 64               // answers to requests of the server's on their way
	maxEarly = 64 << 10         // bytes that come before the first session
	speaksOn = 30 * time.Second // a server, of what a session wanted that has gone
)

// The notifications of servers whose sessions are told apart (2025-11-25, schema, "ServerNotification").
const (
	toolsChanged     = "notifications/tools/list_changed"
	promptsChanged   = "notifications/prompts/list_changed"
	resourcesChanged = "notifications/resources/list_changed"
	resourceUpdated  = "notifications/resources/updated"
	logged           = "notifications/message"
	taskStatus       = "notifications/tasks/status"
)

// process is one process, and the sessions that have it.
type process struct {
	x        *Multiplexer
	lease    Process // set before the first session
	hasTasks bool    // its initialize result declares them
	attached atomic.Int32
	tells    atomic.Int32
	ended    chan struct{} // closed when the process has ended

	initialized turn // held while the server is told so
	wasTold     bool // guarded by initialized: it was
	setting     turn // held while a level goes up, so that they go in the order in which they are reckoned

	mu        sync.Mutex // guards the following, and of each Session what it says
	sessions  map[*Session]struct{}
	opened    bool      // there was a session
	streams   int       // sessions whose agents have a stream open
	parted    time.Time // when a session went last
	over      bool
	early     []delivery
	earlySize int   // bytes of it
	level     level // that went up last; 0: none, or nobody knows
	subscriptions
	tasks
}

func newProcess(x *Multiplexer) *process {
	return &process{
		x: x, ended: make(chan struct{}), initialized: newTurn(), setting: newTurn(), sessions: make(map[*Session]struct{}),
		subscriptions: subscriptions{byURI: make(map[string]*subscription)},
	}
}

// begin makes the process usable: it has answered the daemon's initialize.
func (p *process) begin(lease Process, capabilities []byte) {
	lease.Note(true, false)
	lease.Share(0)
	p.mu.Lock()
	p.lease, p.hasTasks = lease, mcp.MemberOf(capabilities, "tasks") != nil
	var rest []delivery
	early := p.early
	for i := range early {
		if early[i].m.Kind != mcp.KindRequest {
			rest = append(rest, early[i])
		}
	}
	p.early = rest
	p.mu.Unlock()
	for i := range early {
		if early[i].m.Kind == mcp.KindRequest {
			p.refuse(early[i].data, &early[i].m)
		}
	}
}

// attach gives the process to a session, which it enters; nil where the process is on its way. The first one gets what the server
// has said before.
func (p *process) attach(other func([]byte, *mcp.Message)) *Session {
	if !p.lease.Enter() {
		return nil
	}
	s := &Session{p: p, other: other, ended: make(chan struct{}), open: make(map[string]*request)}
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		p.lease.Leave()
		return nil
	}
	p.sessions[s] = struct{}{}
	early := p.early
	p.opened, p.early = true, nil
	for i := range early { // under the lock, or what comes now would be before it
		p.notifyLocked(early[i].data, &early[i].m)
	}
	p.attached.Store(int32(len(p.sessions)))
	p.lease.Share(len(p.sessions))
	p.mu.Unlock()
	return s
}

// end ends the sessions: the process has ended.
func (p *process) end() {
	close(p.ended)
	p.mu.Lock()
	p.over = true
	all := slices.Collect(maps.Keys(p.sessions))
	clear(p.sessions)
	p.attached.Store(0)
	p.streams = 0
	p.mu.Unlock()
	for _, s := range all {
		s.end(p.lease.Failure())
	}
}

// gone is the failure of a call that was not sent because the process has ended.
func (p *process) gone() *mcp.Failure {
	own := *p.lease.Failure()
	own.Sent = mcp.SentNo
	return &own
}

// other takes what the server sends and no request asked for.
func (p *process) other(data []byte, m *mcp.Message) {
	p.mu.Lock()
	if p.lease == nil || !p.opened && m.Kind != mcp.KindRequest {
		if p.earlySize += len(data); p.earlySize <= maxEarly {
			p.early = append(p.early, delivery{data: data, m: *m})
		}
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	if m.Kind == mcp.KindRequest {
		p.refuse(data, m)
		return
	}
	// Under the lock: what comes after a session has gone must not reach it, and each has its own queue, which nobody waits for.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notifyLocked(data, m)
}

// refuse answers a request of the server's. A ping is answered here, and the rest has nobody to go to: no client's capability was
// declared.
func (p *process) refuse(data []byte, m *mcp.Message) {
	member := `"result":{}`
	if m.Method != mcp.MethodPing {
		member = rpcError(codeNoMethod, "Method not found")
		p.x.warnAsked(data, m)
	}
	p.tell(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID.Of(data), member))
}

// tell sends a message of the daemon's own in the background: the reader must not wait for the writer. A server that asks and does
// not read gets no more than so many.
func (p *process) tell(message []byte) {
	if p.tells.Add(1) > maxTells {
		p.tells.Add(-1)
		return
	}
	told := func() {
		defer p.tells.Add(-1)
		ctx, cancel := context.WithTimeout(p.x.base, tellTime)
		defer cancel()
		_ = p.lease.Send(ctx, message, scanned(message)) // a process that has ended needs it no more
	}
	if !p.x.start(told) {
		p.tells.Add(-1)
	}
}

// notifyLocked gives a notification to those whose it is.
func (p *process) notifyLocked(data []byte, m *mcp.Message) {
	if m.Method == mcp.MethodProgress {
		p.lateProgressLocked(data, m)
		return
	}
	name, _ := mcp.Text(m.MethodName.Of(data))
	receivers := p.receiversLocked(name, data, m)
	for i, s := range receivers {
		own := data
		if i < len(receivers)-1 {
			own = bytes.Clone(data)
		}
		s.deliver(s.other, own, m)
	}
	if len(receivers) == 0 {
		p.x.logDropped(name, data, m)
	}
}

func (p *process) receiversLocked(name string, data []byte, m *mcp.Message) []*Session {
	switch name {
	case toolsChanged, promptsChanged, resourcesChanged:
		return slices.Collect(maps.Keys(p.sessions))
	case resourceUpdated:
		return p.subscribersLocked(m.URI.Of(data))
	case taskStatus:
		if s := p.ownerLocked(mcp.MemberOf(m.Params.Of(data), "taskId")); s != nil {
			return []*Session{s}
		}
		return nil
	case mcp.MethodCancelled.String(): // of a request of the server's, which was refused
		return nil
	}
	s := p.onlyLocked()
	if s == nil || name == logged && !s.level.includes(levelOf(mcp.MemberOf(m.Params.Of(data), "level"))) {
		return nil
	}
	return []*Session{s}
}

// onlyLocked returns the session that has the process to itself, nil where there is none. A while after another one has gone the
// server may still speak of what that one wanted.
func (p *process) onlyLocked() *Session {
	if len(p.sessions) != 1 || !p.parted.IsZero() && time.Since(p.parted) < speaksOn {
		return nil
	}
	for s := range p.sessions {
		return s
	}
	return nil
}

// told tells the server once that its client is ready: the first session that is says it for all.
func (p *process) told(ctx context.Context) *mcp.Failure {
	if f := p.initialized.take(ctx, p); f != nil {
		return f
	}
	defer p.initialized.give()
	if p.wasTold {
		return nil
	}
	own := []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	f := p.lease.Send(ctx, own, scanned(own))
	p.wasTold = f == nil || f.Sent != mcp.SentNo
	return f
}

// turn is a lock that can be waited for as long as a context lives.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn, unless the process ends.
func (t turn) take(ctx context.Context, p *process) *mcp.Failure {
	select {
	case t <- struct{}{}:
		return nil
	case <-p.ended:
		return p.gone()
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentNo)
	}
}

func (t turn) give() { <-t }
