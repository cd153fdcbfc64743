package stdio

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// The codes of MCP's own errors (2026-07-28, basic/index, "Error codes").
const (
	codeInvalidParams  = "-32602"
	codeNoMethod       = "-32601"
	codeHeaderMismatch = "-32020"
	codeMissing        = "-32021" // a client capability
	codeVersion        = "-32022"
)

// codeInvalidParamsOwn is codeInvalidParams where the daemon says it.
const codeInvalidParamsOwn = -32602

// modern is the process of the modern era, which all agents share, or several of them (replicas.go).
//
// Its first message is a server/discover of the daemon's own, and so well-formed that an error to it means one thing: the
// server does not speak 2026-07-28. An agent's own could be refused for a reason of its own. What a server said that
// refused it, or ended, is remembered, and the next modern requests get it without a start, which makes their clients go
// on to initialize. Silence is not remembered, nor is what one said that was modern as it is on disk.
type modern struct {
	u      *Upstream
	params paramHeaders

	mu       sync.Mutex // guards the following
	replicas []replica  // at least one
	places   places     // where replies are to go that belong to one of several
	refusal  *refusal   // nil: it has not refused
	spoken   *string    // what was on disk before the last start of a process that is modern; nil: there was none
}

// replica is the place of one process.
type replica struct {
	process *process // nil: none runs
	opening *opening // that is going on; nil: none
}

// process is a modern server that runs.
type process struct {
	lease *Lease
	calls calls
}

// opening is one start of the process, for all who wait for it.
type opening struct {
	start   atomic.Pointer[start] // nil while there is no room for the process
	done    chan struct{}         // closed when the following are there
	process *process
	refusal *refusal
	failure *mcp.Failure
}

// refusal is what a server without the modern era said to server/discover.
type refusal struct {
	onDisk   string
	rpcError []byte // raw
	status   int
}

// call answers one call of the modern era.
func (d *modern) call(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	switch c.Lane {
	case mcp.LaneStream, mcp.LaneEnd, mcp.LaneMessage:
		return textResult(http.StatusMethodNotAllowed, "2026-07-28 has neither sessions nor GET streams"), nil
	case mcp.LaneOpaque, mcp.LaneBatch, mcp.LaneArray:
		return nil, Unreadable(c)
	case mcp.LaneResponse:
		return nil, invalid("2026-07-28 has no answers of clients")
	}
	if c.Lane != mcp.LaneNotification && !c.Message.ProtocolVersion.Present() {
		// Modern by its header, which no pipe carries: the server would take it for a legacy request.
		return nil, &mcp.Failure{
			Code: codeInvalidParamsOwn, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo,
			Message: "_meta has no io.modelcontextprotocol/protocolVersion",
		}
	}
	if c.Mismatch || d.params.differ(c) {
		return nil, &mcp.Failure{
			Code: mcp.CodeHeaderMismatch, Reason: mcp.ReasonHeaderMismatch, Sent: mcp.SentNo,
			Message: "the MCP-Protocol-Version header or a Mcp-* header is missing or differs from the body",
		}
	}
	if c.Lane == mcp.LaneNotification {
		return d.notify(ctx, c)
	}
	for {
		p, refused, f := d.running(ctx, c)
		switch {
		case f != nil:
			return nil, f
		case refused != nil:
			return refused.result(c), nil
		}
		if f := p.lease.awaitCheck(ctx); f != nil {
			return nil, f
		}
		if p.lease.Enter() {
			return p.call(ctx, d.u, c)
		}
		d.forget(p) // it is on its way: another is started
	}
}

// Unreadable is the failure of a body that is no single JSON-RPC message: it cannot be written as a line.
func Unreadable(c *mcp.Call) *mcp.Failure {
	if mcp.IsEncoded(c.Header) {
		return &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: "an encoded body: a stdio server takes JSON only"}
	}
	var m mcp.Message
	switch fault, _ := mcp.Scan(c.Body, &m).(*mcp.ScanError); {
	case fault == nil:
		return invalid("an array: it is allowed in sessions of 2025-03-26 only")
	case fault.Invalid:
		return invalid(fault.Error())
	default:
		return &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: fault.Error()}
	}
}

func invalid(message string) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeInvalidRequest, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo, Message: message}
}

// notify writes a notification. The protocol has none from clients over HTTP: there a closed stream cancels. So one of a
// cancellation, whose id could be any agent's, goes no further.
func (d *modern) notify(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	if c.Method() == mcp.MethodCancelled {
		return mcp.Accepted(), nil
	}
	p, refused, f := d.running(ctx, c)
	switch {
	case f != nil:
		return nil, f
	case refused != nil || !p.lease.Enter():
		return mcp.Accepted(), nil
	}
	defer p.lease.Leave()
	if f := p.lease.Send(ctx, c.Body, &c.Message); f != nil {
		return nil, f
	}
	return mcp.Accepted(), nil
}

// running returns the process for a call, started if none runs, or why there is none.
func (d *modern) running(ctx context.Context, c *mcp.Call) (*process, *refusal, *mcp.Failure) {
	if refused := d.refused(); refused != nil && refused.onDisk == d.u.opts.OnDisk() {
		return nil, refused, nil
	} else if refused != nil {
		d.withdraw(refused)
	}
	d.mu.Lock()
	r := d.chooseLocked(c)
	if r.process != nil {
		defer d.mu.Unlock()
		return r.process, nil, nil
	}
	if d.refusal != nil { // it has refused just now
		defer d.mu.Unlock()
		return nil, d.refusal, nil
	}
	o := d.beginLocked(r)
	d.mu.Unlock()
	if o == nil {
		return nil, nil, mcp.Draining()
	}
	timer := time.NewTimer(d.u.opts.Pool.opts.Handshake)
	defer timer.Stop()
	select {
	case <-o.done:
		return o.process, o.refusal, o.failure
	case <-timer.C: // the start goes on
		return nil, nil, d.u.opts.Pool.stillStarting(o.start.Load())
	case <-ctx.Done():
		return nil, nil, mcp.Canceled(ctx, mcp.SentNo)
	}
}

// refused returns how the server has refused the modern era, nil where it has not, or where a process runs that has not. Whether the server
// is the same on disk is asked without the lock: to look may take a while.
func (d *modern) refused() *refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	if slices.ContainsFunc(d.replicas, replica.serves) {
		return nil
	}
	return d.refusal
}

// withdraw forgets a refusal by a server that is another one on disk now.
func (d *modern) withdraw(refused *refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refusal == refused {
		d.refusal = nil
	}
}

// beginLocked begins to open the process of a replica, unless that goes on already; nil where the pool is closed.
func (d *modern) beginLocked(r *replica) *opening {
	if r.opening != nil {
		return r.opening
	}
	o := &opening{done: make(chan struct{})}
	if !d.u.opts.Pool.run(func() { d.open(r, o) }) {
		return nil
	}
	r.opening = o
	return o
}

// forget drops a process that has ended.
func (d *modern) forget(p *process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.replicas {
		if d.replicas[i].process == p {
			d.replicas[i].process = nil
		}
	}
}

// open starts the process of a replica. The pool's context bounds it, and not that of any agent.
func (d *modern) open(r *replica, o *opening) {
	p, onDisk := d.u.opts.Pool, d.u.opts.OnDisk()
	o.process, o.refusal, o.failure = d.start(p, o, onDisk)
	if s := o.start.Load(); s != nil { // which has ended
		onDisk = s.onDisk
	}
	d.mu.Lock()
	r.opening, r.process = nil, o.process
	d.noteLocked(o, onDisk)
	d.mu.Unlock()
	close(o.done)
	if o.process == nil {
		return
	}
	o.process.lease.Leave()
	<-o.process.lease.Ended()
	d.forget(o.process)
	o.process.calls.end(o.process.lease.Failure())
}

// noteLocked remembers what an opening says of the server. A refusal beside a process that serves, or by a server that was modern and is the
// same on disk, is of that start alone: one with a lock file or a port of its own ends where a second one is started.
func (d *modern) noteLocked(o *opening, onDisk string) {
	switch {
	case o.process != nil:
		d.spoken = &onDisk
	case o.refusal == nil, d.spoken != nil && *d.spoken == onDisk, slices.ContainsFunc(d.replicas, replica.serves):
	default:
		o.refusal.onDisk = onDisk
		d.refusal = o.refusal
	}
}

func (r replica) serves() bool { return r.process != nil }

// start starts the process and asks it whether it is modern.
func (d *modern) start(p *Pool, o *opening, onDisk string) (*process, *refusal, *mcp.Failure) {
	if f := p.refusal(); f != nil {
		return nil, nil, f
	}
	l, f := p.total.acquire(p.base, p, false)
	if f != nil {
		return nil, nil, f
	}
	discover := d.discover()
	var m mcp.Message
	if err := mcp.Scan(discover, &m); err != nil {
		panic("stdio: a request of the daemon's own is none (this is a bug): " + err.Error())
	}
	s := p.newStart(l, discover, &m, onDisk)
	o.start.Store(s)
	if !p.begin(s) {
		return nil, nil, mcp.Draining()
	}
	<-s.done // after StartTimeout at the latest
	switch f := s.failure; {
	case f == nil:
	case f.Reason == mcp.ReasonStartFailed && s.exited():
		return nil, endedAtDiscover(), nil
	default:
		return nil, nil, f
	}
	if refused := refusalOf(s.answer); refused != nil {
		l.Release()
		return nil, refused, nil
	}
	one := &process{lease: l}
	one.calls.lease, l.discover = l, s.first
	l.Note(true, false)      // it may hold request states, tasks and listens
	l.adopt(one.calls.other) // which is called at once with what came before the answer, and by the reader from now on
	return one, nil, nil
}

// exited reports whether the start failed because its process, which had been started, made an exit of its own, a crash included. One
// that was killed, or whose guard was, has said nothing of the era.
func (s *start) exited() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.pool.base.Err() != nil {
		return false
	}
	select {
	case <-s.conn.p.Done():
		return !s.conn.p.Killed()
	default:
		return false
	}
}

// discover is the daemon's own server/discover.
func (d *modern) discover() []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":0,"method":"server/discover","params":{"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":{"name":"fluentd-perf","version":%q},`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, mcp.Version20260728, d.u.opts.Client)
}

// refusalOf returns what an answer to server/discover refuses; nil where the server is modern.
func refusalOf(answer []byte) *refusal {
	var m mcp.Message
	if mcp.Scan(answer, &m) != nil || m.Kind == mcp.KindResult {
		return nil
	}
	status := http.StatusBadRequest // the other status after which clients go on to initialize
	switch string(m.ErrorCode.Of(answer)) {
	case codeHeaderMismatch, codeMissing: // which only modern servers know
		return nil
	case codeNoMethod:
		status = http.StatusNotFound
	}
	return &refusal{rpcError: bytes.Clone(m.Error.Of(answer)), status: status}
}

// endedAtDiscover is the refusal of a server that ended: clients go on to initialize after it, as after any other.
func endedAtDiscover() *refusal {
	return &refusal{
		rpcError: []byte(`{"code":-32601,"message":"the server does not speak 2026-07-28: its process ended at server/discover"}`),
		status:   http.StatusNotFound,
	}
}

// result is the refusal as the answer to a request.
func (r *refusal) result(c *mcp.Call) *mcp.Result {
	body := append([]byte(`{"jsonrpc":"2.0","id":`), c.ID()...)
	body = append(append(append(body, `,"error":`...), r.rpcError...), '}')
	var m mcp.Message
	if mcp.Scan(body, &m) != nil {
		m = mcp.Message{} // the server's error is no Unicode: it passes
	}
	return jsonResult(c, r.status, body, &m)
}

// statusOf returns the status with which a server over HTTP would answer (2026-07-28, basic/transports/streamable-http).
func statusOf(c *mcp.Call, data []byte, m *mcp.Message) int {
	switch string(m.ErrorCode.Of(data)) {
	case codeNoMethod:
		return http.StatusNotFound
	case codeHeaderMismatch, codeMissing, codeVersion:
		return http.StatusBadRequest
	case codeInvalidParams:
		if !c.Message.ProtocolVersion.Present() || !c.Message.ClientCapabilities.Present() {
			return http.StatusBadRequest
		}
	}
	return http.StatusOK
}
