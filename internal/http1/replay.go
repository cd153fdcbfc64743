package http1

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// replayed is a connection that net/http serves: the bytes that were read already are in front of those to come.
type replayed struct {
	net.Conn
	own    *serverConn
	front  []byte
	headBy time.Time // bounds the head of which these are the start; zero: as net/http says
	fresh  bool      // nothing has come yet, and a head may be as late as on an idle connection
	begun  bool      // the first deadline was set
}

// replay leaves a connection to net/http, for the rest of its life. why is "" where nothing was read.
func (c *serverConn) replay(why Replay) {
	r := &replayed{Conn: c.nc, own: c, fresh: len(c.data) == 0}
	if len(c.data) > 0 {
		r.front = append([]byte(nil), c.data...)
		r.headBy = c.server.at(c.by)
		if phaseOf(c.phase.Load()) == phaseServing { // the head was whole
			r.headBy = time.Time{}
		}
		if !c.enter(phaseReading, c.server.now()) {
			c.drop()
			return
		}
	}
	c.drop()
	_ = c.nc.SetDeadline(time.Time{}) // those that were left; it fails only where it is closed, which net/http finds out
	if why != "" && c.server.o.Replayed != nil {
		c.server.o.Replayed(why)
	}
	c.server.replays.give(r)
}

// Read implements net.Conn. Bytes that come while the drain closes the connection are not handed on.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.front) > 0 {
		n := copy(p, r.front)
		if r.front = r.front[n:]; len(r.front) == 0 {
			r.front = nil
		}
		return n, nil
	}
	n, err := r.Conn.Read(p)
	if n > 0 && !r.own.arrived() {
		return 0, net.ErrClosed
	}
	if n > 0 && r.fresh {
		r.fresh = false
		_ = r.Conn.SetReadDeadline(time.Now().Add(r.own.server.o.HeadTimeout)) // fails only where it is closed
	}
	return n, err
}

// SetReadDeadline implements net.Conn. The first one is of the first head, which net/http counts from when it begins to wait for
// it.
func (r *replayed) SetReadDeadline(t time.Time) error {
	if !r.begun {
		r.begun = true
		switch {
		case r.fresh:
			t = time.Now().Add(r.own.server.o.IdleTimeout)
		case !r.headBy.IsZero() && r.headBy.Before(t):
			t = r.headBy
		}
	}
	return r.Conn.SetReadDeadline(t)
}

// CloseWrite closes the direction to the agent. net/http does so before it leaves one that still sends, so that it can read its
// answer.
func (r *replayed) CloseWrite() error {
	if one, ok := r.own.sock.(interface{ CloseWrite() error }); ok {
		return one.CloseWrite()
	}
	return nil
}

// Close implements net.Conn.
func (r *replayed) Close() error {
	r.own.close()
	return nil
}

// handoff is a listener whose connections are given to it.
type handoff struct {
	conns chan net.Conn
	ended chan struct{}
	end   sync.Once
}

func newHandoff() *handoff { return &handoff{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.ended:
		_ = c.Close() // as all connections
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ended:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.end.Do(func() { close(h.ended) })
	return nil
}

// Addr implements net.Listener.
func (*handoff) Addr() net.Addr { return &net.UnixAddr{Name: "replayed", Net: "unix"} }

// newFallback makes the net/http server of connections that are replayed.
func (s *Server) newFallback() *http.Server {
	return &http.Server{
		Handler: s.noted(s.o.HTTP), MaxHeaderBytes: maxHead,
		ReadHeaderTimeout: s.o.HeadTimeout, ReadTimeout: max(s.o.HeadTimeout, s.o.BodyTimeout), IdleTimeout: s.o.IdleTimeout,
		ErrorLog:    slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return s.o.Base },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, nc.(*replayed).own)
		},
		// Of the states only idle is of use: net/http does not report a pipelined request, which it has read together with
		// the one before, as active.
		ConnState: func(nc net.Conn, state http.ConnState) {
			if r, ok := nc.(*replayed); ok && state == http.StateIdle {
				r.own.becomeIdle(s.now())
			}
		},
	}
}

// noted returns next with the connections of its requests noted as serving, and with the time that their bodies may take.
func (s *Server) noted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own, ok := r.Context().Value(connKey{}).(*serverConn); ok {
			own.enter(phaseServing, 0)
		}
		if r.ContentLength > bodyPace {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTime(r.ContentLength))) // it can be set
		}
		next.ServeHTTP(w, r)
	})
}
