package loadgen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/mcp"
)

// Streams are sessions of a legacy target with an open GET stream each, over a connection for each session. Nothing is read from them:
// what a server sends stays in the buffers of the system. Close ends them.
type Streams struct {
	pool *Clients
	mu   sync.Mutex // while they are opened it guards open, and is held for each call of watch
	open []*client
}

// streamsAtOnce is how many are opened, or looked at, at the same time.
const streamsAtOnce = 64

// OpenStreams opens n of them. watch is called with how many are open after each, by one goroutine at a time. With an error, which is that of the first that could not be opened, there are fewer.
func OpenStreams(ctx context.Context, t *Target, n int, watch func(open int)) (*Streams, error) {
	if t.Era != mcp.EraLegacy {
		return nil, errors.New("only legacy servers have GET streams")
	}
	s := &Streams{pool: NewClients(t)}
	stop := context.AfterFunc(ctx, s.pool.abort)
	defer stop()
	var next atomic.Int64
	var once sync.Once
	var first error
	inParallel(streamsAtOnce, func() {
		for next.Add(1) <= int64(n) && ctx.Err() == nil {
			c := &client{target: t, pool: s.pool}
			err := c.openStream(ctx)
			if err != nil {
				c.disconnect()
				once.Do(func() { first = err })
				next.Add(int64(n)) // the next one would fail as well
				return
			}
			s.mu.Lock()
			s.open = append(s.open, c)
			watch(len(s.open))
			s.mu.Unlock()
		}
	})
	if ctx.Err() != nil {
		first = context.Cause(ctx)
	}
	return s, first
}

// openStream opens a session, and a GET stream on its connection.
func (c *client) openStream(ctx context.Context) error {
	if err := c.connect(ctx); err != nil {
		return err
	}
	if err := c.target.Limit.Wait(ctx); err != nil {
		return err
	}
	if err := c.conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write([]byte(c.target.head("GET", c.session, nil, 0))); err != nil {
		return err
	}
	f, err := c.reader.head(&c.answer)
	switch {
	case err != nil:
		return fmt.Errorf("GET: %w", err)
	case c.answer.status != 200 || !c.answer.events:
		if c.reader.bodyOf(&c.answer, f) != nil {
			c.answer.body = nil
		}
		return fmt.Errorf("GET: status %d: %.200q", c.answer.status, c.answer.body)
	}
	c.reader, c.answer, c.messages = answerReader{}, answer{}, nil // there may be ten thousand of them
	return c.conn.SetDeadline(time.Time{})
}

// Len returns how many were opened.
func (s *Streams) Len() int { return len(s.open) }

// Alive returns how many are still open.
func (s *Streams) Alive() int {
	var next, alive atomic.Int64
	inParallel(streamsAtOnce, func() {
		buf := make([]byte, 4<<10)
		for i := next.Add(1) - 1; i < int64(len(s.open)); i = next.Add(1) - 1 {
			if isOpen(s.open[i].conn, buf) {
				alive.Add(1)
			}
		}
	})
	return int(alive.Load())
}

// isOpen reads what has come, without waiting for more, and reports whether the end is not among it. It says so of no connection but
// those of TCP and Unix sockets.
func isOpen(conn net.Conn, buf []byte) (open bool) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		n := 1
		for n > 0 && err == nil {
			n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
		}
		open = errors.Is(err, unix.EAGAIN)
		return true
	})
	return open
}

// Close closes the streams and their connections. The sessions end by the server's own time.
func (s *Streams) Close() {
	for _, c := range s.open {
		c.disconnect()
	}
}

// inParallel runs f so many times at once, and waits for all.
func inParallel(n int, f func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(f)
	}
	all.Wait()
}
