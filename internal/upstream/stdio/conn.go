package stdio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	maxTasks   = 256 // whose progress tokens are known
	shownLines = 20  // of stderr, in an error

	// exitGrace is how long is waited for what comes at once, but on a machine that is busy with other things: after the end of a process
	// for what is left in its pipe, and after that of its stdout for how it ended, which another process tells.
	exitGrace = 500 * time.Millisecond
)

// conn is the messages of one process: lines over its stdin and stdout (2026-07-28, basic/transports/stdio).
//
// Requests go down under ids of the daemon's own, and so do their progress tokens; what comes back under them is put back
// and given to whoever asked. All else that comes is other's. When the process ends, closes its stdout, writes a line over
// the limit, or does not read for too long, the conn ends, and with it everybody who waits, now and later.
type conn struct {
	p     Process
	opts  *connOptions
	other func(data []byte, m *mcp.Message) // gets what names no request that waits; data is its own. Called by the reader
	count func(*mcp.Failure)                // is told why the conn ends, before all others

	out      chan *outgoing
	received atomic.Uint64          // messages that have come
	giving   atomic.Bool            // the reader gives what has come to whom it is for
	check    atomic.Pointer[check]  // that goes on; nil: none
	requests atomic.Uint32          // that were sent
	skipped  atomic.Pointer[string] // what may be shown of the first line that was no message; nil: there was none

	unread  chan struct{} // closed when nothing is read any more
	ended   chan struct{} // closed when the conn has ended
	once    sync.Once
	failure *mcp.Failure // why; set before ended is closed

	mu      sync.Mutex // guards the following
	pending map[uint64]*pendingRequest
	written uint64            // requests whose writing has begun
	tasks   []*pendingRequest // answered by a task, whose progress goes on; the oldest first

	running sync.WaitGroup // reader, writer, watcher
}

// connOptions are what all conns of an entry have in common.
type connOptions struct {
	limit   int           // bytes of a line
	blocked time.Duration // `timeouts.first_byte`: how long a write may block
	ids     *mcp.IDs
	buffers *mcp.BufferPool
	junk    *junk
}

// pendingRequest is a request that has no answer yet.
type pendingRequest struct {
	id    []byte // the agent's
	token []byte // the agent's progress token; nil: none
	own   []byte // in their place
	task  bool   // it asked for a task
	take  func(data []byte, m *mcp.Message)

	// Of whether the process answers (alive.go); place and givenUp are guarded by the conn's lock.
	since   uint64 // conn.received from before it was written
	listen  bool   // it waits for as long as its agent wants
	place   uint64 // in the order of writing; 0: that has not begun
	givenUp bool
}

// outgoing is one line on its way down.
type outgoing struct {
	line    []byte
	request *pendingRequest // nil: it is none
	done    chan struct{}   // closed when it has been written
}

func newConn(p Process, o *connOptions, other func([]byte, *mcp.Message), count func(*mcp.Failure)) *conn {
	return &conn{
		p: p, opts: o, other: other, count: count, out: make(chan *outgoing), unread: make(chan struct{}), ended: make(chan struct{}),
		pending: make(map[uint64]*pendingRequest),
	}
}

// run begins to read and to write.
func (c *conn) run() {
	c.running.Go(c.read)
	c.running.Go(c.write)
	c.running.Go(c.watch)
}

// end ends the conn and begins to stop the process. Only the first end counts.
func (c *conn) end(f *mcp.Failure) {
	c.once.Do(func() {
		c.failure = f
		c.count(f) // who learns of the end and wants another process finds it counted
		close(c.ended)
		c.p.Stop()
		_ = c.p.Stdin().Close() // a write that blocks returns
	})
}

func (c *conn) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// failed returns why the conn has ended, as the failure of a call of which the server has seen that much.
func (c *conn) failed(sent mcp.Sent) *mcp.Failure {
	own := *c.failure
	own.Sent = sent
	return &own
}

// watch closes stdout soon after the process has ended: a child of it may hold the other end open, and then no end comes.
func (c *conn) watch() {
	<-c.p.Done()
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-timer.C:
		_ = c.p.Stdout().Close()
	case <-c.unread:
	}
}

// read takes line after line until there are no more.
func (c *conn) read() {
	defer close(c.unread)
	defer func() { _ = c.p.Stdout().Close() }()
	r := mcp.NewLineReader(c.p.Stdout(), c.opts.buffers, c.opts.limit)
	defer r.Close()
	for {
		line, err := r.Next()
		switch {
		case errors.Is(err, mcp.ErrLineTooLong):
			c.end(lineTooLong(c.opts.limit))
			return // what follows cannot be told apart any more
		case err != nil:
			c.end(c.lost(err))
			return
		case len(bytes.TrimSpace(line)) > 0:
			c.giving.Store(true)
			c.took(line)
			c.giving.Store(false)
		}
	}
}

// took looks at one line. Servers of 2025-03-26 may put messages into arrays (basic/transports).
//
// A carriage return between tokens means a blank, and would be the end of a line in an event.
func (c *conn) took(line []byte) {
	for i := bytes.IndexByte(line, '\r'); i >= 0; i = bytes.IndexByte(line, '\r') {
		line[i] = ' '
	}
	var m mcp.Message
	switch err := mcp.Scan(line, &m); {
	case err != nil:
		c.opts.junk.add(line)
		if c.skipped.Load() == nil {
			shown := c.opts.junk.shown(line)
			c.skipped.Store(&shown)
		}
	case m.Kind == mcp.KindBatch:
		mcp.EachMessage(line, c.message)
	default:
		c.message(line, &m)
	}
}

// message gives a message to whom it is for.
func (c *conn) message(b []byte, m *mcp.Message) {
	c.noteReceived()
	switch {
	case m.Kind.IsAnswer():
		p := c.take(m.ID.Of(b))
		if p == nil {
			return // of a request that was given up, or an error that names none
		}
		if p.task && p.token != nil && m.Kind == mcp.KindResult {
			c.keepTask(p)
		}
		p.take(p.putBackID(b, m), m)
	case m.Kind == mcp.KindNotification && m.Method == mcp.MethodProgress:
		c.progress(b, m)
	default:
		c.other(m.Trim(bytes.Clone(b)), m)
	}
}

// progress gives a progress notification to the request whose token it has. One of a request that is over goes no further: its token
// is the daemon's, which no agent has given, and there are clients that end a connection on which one comes. Only where a task
// goes on does the token (2025-11-25, basic/utilities/tasks).
func (c *conn) progress(b []byte, m *mcp.Message) {
	params := m.Params.Of(b)
	at, err := mcp.Member(params, "progressToken")
	if err != nil || !at.Present() {
		c.opts.junk.add(b)
		return
	}
	token := at.Of(params)
	p, take := c.find(token), c.other
	if p != nil {
		take = p.take
	} else {
		p = c.findTask(token)
	}
	switch {
	case p != nil && p.token != nil:
		at.Start, at.End = at.Start+m.Params.Start, at.End+m.Params.Start
		data := m.Splice(nil, b, at, p.token)
		take(m.Trim(data), m)
	case p == nil && !c.opts.ids.Named(token): // the server's own
		c.other(m.Trim(bytes.Clone(b)), m)
	}
}

// keepTask notes a request that was answered by a task.
func (c *conn) keepTask(p *pendingRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tasks) == maxTasks {
		c.tasks = append(c.tasks[:0], c.tasks[1:]...)
	}
	c.tasks = append(c.tasks, p)
}

// findTask returns the request with an id of the daemon's own that was answered by a task; nil where there is none.
func (c *conn) findTask(id []byte) *pendingRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.tasks, func(p *pendingRequest) bool { return mcp.SameID(p.own, bytes.Trim(id, `"`)) })
	if i < 0 {
		return nil
	}
	return c.tasks[i]
}

// putBackID returns the answer under the agent's id. Where the server gave the id back as a text, the agent gets its own as
// one: it would without the daemon.
func (p *pendingRequest) putBackID(b []byte, m *mcp.Message) []byte {
	id := p.id
	if m.ID.Of(b)[0] == '"' {
		m.Loose = true
		if id[0] != '"' {
			id = strconv.AppendQuote(nil, string(id))
		}
	}
	data := m.Splice(make([]byte, 0, len(b)+len(id)), b, m.ID, id)
	return m.Trim(data)
}

// take returns the request with an id of the daemon's own, which waits no longer; nil where there is none.
func (c *conn) take(id []byte) *pendingRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, p := c.findLocked(id)
	if p != nil {
		delete(c.pending, n)
	}
	return p
}

// find is take without an end of the wait.
func (c *conn) find(id []byte) *pendingRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, p := c.findLocked(id)
	return p
}

func (c *conn) findLocked(id []byte) (uint64, *pendingRequest) {
	if n, err := strconv.ParseUint(string(bytes.Trim(id, `"`)), 10, 64); err == nil {
		return n, c.pending[n]
	}
	for n, p := range c.pending { // 1.0 is 1: no server is known that writes it so
		if mcp.SameID(p.own, id) {
			return n, p
		}
	}
	return 0, nil
}

// request sends a request down under an id of the daemon's own, which is of connOptions.ids. take gets what names it, ids and
// token put back: progress, then the answer. The reader calls it, and what it is given is its own.
func (c *conn) request(ctx context.Context, own, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) *mcp.Failure {
	n, err := strconv.ParseUint(string(own), 10, 64)
	if err != nil {
		panic("stdio: an id of the daemon's own is no number (this is a bug)")
	}
	p := &pendingRequest{
		id: bytes.Clone(m.ID.Of(body)), token: bytes.Clone(m.ProgressToken.Of(body)), own: own, task: m.Task.Present(), take: take,
		since: c.received.Load(), listen: m.Method == mcp.MethodSubscriptionsListen,
	}
	c.mu.Lock()
	c.pending[n] = p
	c.mu.Unlock()
	c.requests.Add(1)
	f := c.sendAs(ctx, rename(body, *m, own), p)
	if f != nil && f.Sent == mcp.SentNo {
		c.forget(own)
	}
	return f
}

// forget drops a request: its answer is nobody's any more.
func (c *conn) forget(own []byte) { c.take(own) }

// rename returns a request with another id, and with that in the place of its progress token too.
func rename(body []byte, m mcp.Message, own []byte) []byte {
	if m.ProgressToken.Present() {
		body = m.Splice(make([]byte, 0, len(body)+len(own)), body, m.ProgressToken, own)
	}
	body = m.Splice(make([]byte, 0, len(body)+len(own)), body, m.ID, own)
	return m.Trim(body)
}

// send writes a message that is no request.
func (c *conn) send(ctx context.Context, message []byte) *mcp.Failure {
	return c.sendAs(ctx, message, nil)
}

// sendAs writes one message as one line: raw newlines become blanks, which they mean in JSON.
func (c *conn) sendAs(ctx context.Context, message []byte, request *pendingRequest) *mcp.Failure {
	line := make([]byte, len(message)+1)
	for i, b := range message {
		if b == '\n' || b == '\r' {
			b = ' '
		}
		line[i] = b
	}
	line[len(message)] = '\n'
	o := &outgoing{line: line, request: request, done: make(chan struct{})}
	if c.hasEnded() {
		return c.failed(mcp.SentNo)
	}
	select {
	case c.out <- o:
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentNo)
	case <-c.ended:
		return c.failed(mcp.SentNo)
	}
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentUnknown)
	case <-c.ended:
		return c.failed(mcp.SentUnknown)
	}
}

// write writes lines one by one. A child that does not read for too long is ended: half a line has gone, and no other may
// follow it.
func (c *conn) write() {
	for {
		select {
		case o := <-c.out:
			c.noteWriting(o.request)
			timer := time.AfterFunc(c.opts.blocked, func() { c.end(notReading(c.opts.blocked)) })
			_, err := c.p.Stdin().Write(o.line)
			timer.Stop()
			if err != nil {
				c.broken()
				return
			}
			close(o.done)
		case <-c.ended:
			return
		}
	}
}

// noteWriting gives a request its place in the order of writing.
func (c *conn) noteWriting(p *pendingRequest) {
	if p == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written++
	p.place = c.written
}

// broken ends the conn after a write that failed. The process has closed its stdin, most often because it ended: the reader
// knows better, if it is about to say so.
func (c *conn) broken() {
	timer := time.NewTimer(2 * exitGrace)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		c.end(brokeOff("the server's process closed its stdin"))
	}
}

// lost is the failure of the end of stdout.
func (c *conn) lost(err error) *mcp.Failure {
	timer := time.NewTimer(exitGrace)
	defer timer.Stop()
	select {
	case <-c.p.Done():
		f := brokeOff("the server's process ended: " + c.p.Exit())
		f.Cause = stderrOf(c.p)
		return f
	case <-timer.C:
	}
	f := brokeOff("the server's process closed its stdout")
	if err != io.EOF {
		f.Cause = err
	}
	return f
}

func brokeOff(message string) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: message}
}

func lineTooLong(limit int) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: "the server wrote a message of more than " + strconv.Itoa(limit) + " bytes (limits.event), and its process was ended",
	}
}

func notReading(after time.Duration) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown, Silent: true,
		Message: "the server's process did not read its stdin for " + after.String() + " (timeouts.first_byte), and was ended",
	}
}

// stderrOf returns the last lines of a process's stderr as an error for the log, nil where there are none.
func stderrOf(p Process) error {
	lines := p.Stderr()
	if len(lines) == 0 {
		return nil
	}
	return errors.New("its stderr ends with: " + strings.Join(lines, " | "))
}
