package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"fluentd-perf/internal/mcp"
)

// callTimeout is how long a call may take, and each step of a handshake.
const callTimeout = 30 * time.Second

var errNoAnswer = fmt.Errorf("no whole answer within %v", callTimeout)

// client is one connection to a target, and the session on it where the server has sessions. It is used by one goroutine at a time.
type client struct {
	target   *Target
	pool     *Clients
	conn     net.Conn  // nil: not connected
	last     time.Time // of the connection: when it was opened, or its last call was over
	used     bool      // it has carried a whole answer
	reader   answerReader
	session  string
	opened   bool // the handshake is done; with a process it is over with that
	messages map[*Kind]*message
	answer   answer
}

// connect opens the connection where there is none, and the session where it is not open. It does so again after a connection was
// lost: the session lives on.
func (c *client) connect(ctx context.Context) error {
	if err := c.dial(ctx); err != nil || c.opened || c.target.Era != mcp.EraLegacy {
		return err
	}
	return c.handshake(ctx)
}

// dial opens the connection where there is none.
func (c *client) dial(ctx context.Context) error {
	if c.conn != nil {
		return nil
	}
	conn, err := c.target.dial(ctx)
	if err != nil {
		return err
	}
	if !c.pool.adopt(conn) {
		_ = conn.Close() // nothing was sent on it
		return net.ErrClosed
	}
	c.conn, c.last, c.used = conn, time.Now(), false
	if c.reader.br == nil {
		c.reader.br = bufio.NewReaderSize(conn, readBuffer)
	}
	c.reader.br.Reset(conn)
	return nil
}

// initialize is the first message of a legacy session.
func (t *Target) initialize() *Kind {
	return &Kind{Name: "initialize", Method: "initialize", Params: `"protocolVersion":"` + mcp.Version20251125 + `","capabilities":{},"clientInfo":` + t.clientInfo()}
}

// handshake opens a session (2025-11-25, basic/lifecycle).
func (c *client) handshake(ctx context.Context) error {
	m := newMessage(c.target, c.target.initialize(), "")
	m.fill(takeIDs(1), 0)
	if _, err := c.exchange(ctx, m.text); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	c.noteDaemon()
	if f := m.check(&c.answer); f != nil {
		return fmt.Errorf("initialize: %s", f.detail)
	}
	c.session, c.messages = c.answer.sessionID, nil
	if err := c.initialized(ctx); err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	c.opened = true
	return nil
}

// noteDaemon notes whether the last answer is one of a daemon of this program.
func (c *client) noteDaemon() {
	if c.answer.cache != cacheNone {
		c.pool.cached.Store(true)
	}
}

// initialized says that the session is open. Only over HTTP a notification is answered.
func (c *client) initialized(ctx context.Context) error {
	text := c.target.request(c.session, nil, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if c.target.Command != nil {
		_, err := c.conn.Write(text)
		return err
	}
	if _, err := c.exchange(ctx, text); err != nil {
		return err
	}
	if c.answer.status != 202 && c.answer.status != 200 && c.answer.status != 204 {
		return fmt.Errorf("status %d", c.answer.status)
	}
	return nil
}

// exchange sends a request and reads its answer into c.answer. The connection is gone after an error, and where the server closes it: then
// the next request, of the same handshake too, opens another. sent is when it went out.
func (c *client) exchange(ctx context.Context, text []byte) (sent time.Time, err error) {
	if err := c.target.Limit.Wait(ctx); err != nil {
		return time.Now(), err
	}
	if err := c.dial(ctx); err != nil {
		return time.Now(), err
	}
	sent = time.Now()
	if err := c.conn.SetDeadline(sent.Add(callTimeout)); err == nil {
		if _, err = c.conn.Write(text); err == nil {
			err = c.read()
		}
		c.used = err == nil
		if err == nil && !c.answer.closes {
			return sent, nil
		}
		if err = endedBy(c.conn, err); errors.Is(err, os.ErrDeadlineExceeded) {
			err = errNoAnswer
		}
		c.disconnect()
		return sent, err
	}
	c.disconnect()
	return sent, net.ErrClosed
}

// read reads what is the answer to the request that was sent last.
func (c *client) read() error {
	if c.target.Command != nil {
		return c.reader.line(&c.answer, c.conn)
	}
	return c.reader.read(&c.answer)
}

func (c *client) disconnect() {
	if c.conn != nil {
		c.pool.close(c.conn)
		c.conn = nil
	}
	if c.target.Command != nil {
		c.opened = false
	}
}

// timing is when a call was sent and when its answer was there.
type timing struct{ sent, done time.Time }

// call makes one call.
func (c *client) call(ctx context.Context, k *Kind, key int64) (timing, *fault) {
	begun := time.Now()
	c.dropClosed(begun)
	if err := c.connect(ctx); err != nil {
		return timing{begun, time.Now()}, &fault{FaultConnect, err.Error()}
	}
	m := c.message(k)
	m.fill(takeIDs(max(1, k.Array)), key)
	sent, err := c.exchange(ctx, m.text)
	t := timing{sent, time.Now()}
	c.last = t.done
	if err != nil {
		return t, brokenOff(err)
	}
	if c.answer.status == 404 { // the session is lost (2025-11-25, basic/transports): the next call opens another
		c.session, c.opened, c.messages = "", false, nil
	}
	return t, m.check(&c.answer)
}

func (c *client) message(k *Kind) *message {
	m := c.messages[k]
	if m == nil {
		if c.messages == nil || len(c.messages) > 64 { // those of loads that are over
			c.messages = make(map[*Kind]*message)
		}
		m = newMessage(c.target, k, c.session)
		c.messages[k] = m
	}
	return m
}

// brokenOff says why there is no whole answer.
func brokenOff(err error) *fault {
	switch {
	case errors.Is(err, errNoAnswer), errors.Is(err, context.DeadlineExceeded):
		return &fault{FaultTimeout, errNoAnswer.Error()}
	case errors.Is(err, errMalformed), errors.Is(err, bufio.ErrBufferFull):
		return &fault{FaultMalformed, err.Error()}
	}
	return &fault{FaultBroke, err.Error()}
}

// leave ends the session and the connection. What the server says to it matters only to who asks for the error.
func (c *client) leave(ctx context.Context) (err error) {
	if c.session != "" {
		if _, err = c.exchange(ctx, []byte(c.target.head("DELETE", c.session, nil, 0))); err == nil && c.answer.status/100 != 2 && c.answer.status != 405 {
			err = fmt.Errorf("DELETE: status %d: %.200q", c.answer.status, c.answer.body)
		}
	}
	c.disconnect()
	c.session, c.opened, c.messages = "", false, nil
	return err
}

// Ask makes one call outside of any load and returns the result. It is for finding out what a server has. After an end of ctx the
// clients cannot be used again.
func (p *Clients) Ask(ctx context.Context, k Kind) (result []byte, err error) {
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	c := p.get()
	defer p.put(c)
	_, f := c.call(ctx, &k, 0)
	c.noteDaemon()
	if f != nil {
		return nil, fmt.Errorf("%s: %s: %s", k.Name, f.reason, f.detail)
	}
	body := c.answer.body
	if c.answer.events {
		body = lastData(body)
	}
	var s mcp.Message
	if err := mcp.Scan(body, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", k.Name, err)
	}
	return bytes.Clone(s.Result.Of(body)), nil
}

// lastData returns the data of a stream's last event that has any.
func lastData(body []byte) (data []byte) {
	for event := range bytes.SplitSeq(bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n")), []byte("\n\n")) {
		if d := dataOf(event); len(d) > 0 {
			data = d
		}
	}
	return data
}
