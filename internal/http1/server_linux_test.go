package http1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcptest"
)

// agentSide is a Server under test, and what it has told.
type agentSide struct {
	*http1.Server
	addr net.Addr

	mu       sync.Mutex
	replayed []http1.Replay
	log      strings.Builder
}

func (s *agentSide) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *agentSide) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func (s *agentSide) reasons() []http1.Replay {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.replayed)
}

// newServer serves the handler on a listener of 127.0.0.1 until the test ends.
func newServer(tb testing.TB, h http.HandlerFunc, change ...func(*http1.ServerOptions)) *agentSide {
	tb.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return newServerOn(tb, ln, h, change...)
}

func newServerOn(tb testing.TB, ln net.Listener, h http.HandlerFunc, change ...func(*http1.ServerOptions)) *agentSide {
	s := &agentSide{addr: ln.Addr()}
	o := http1.ServerOptions{HTTP: h, Log: slog.New(slog.NewTextHandler(s, nil)), Replayed: func(why http1.Replay) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.replayed = append(s.replayed, why)
	}}
	for _, f := range change {
		f(&o)
	}
	s.Server = http1.NewServer(o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	tb.Cleanup(func() {
		_ = ln.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			tb.Error(err)
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// dialServer connects to a server.
func dialServer(tb testing.TB, addr net.Addr) net.Conn {
	tb.Helper()
	nc, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(mcptest.WaitTimeout))
	return nc
}

func send(tb testing.TB, nc net.Conn, raw string) {
	tb.Helper()
	if _, err := io.WriteString(nc, raw); err != nil {
		tb.Fatal(err)
	}
}

// got is an answer as an agent reads it.
type got struct {
	status int
	body   string
	header http.Header
	length int64
	closes bool // by its own words
}

// receive reads one answer.
func receive(tb testing.TB, br *bufio.Reader) got {
	tb.Helper()
	g, err := tryReceive(br)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func tryReceive(br *bufio.Reader) (got, error) {
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return got{}, err
	}
	b, err := io.ReadAll(res.Body)
	return got{res.StatusCode, string(b), res.Header, res.ContentLength, res.Close}, err
}

// until waits for what must happen.
func until(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	for end := time.Now().Add(mcptest.WaitTimeout); !is(); {
		if time.Now().After(end) {
			tb.Fatal("not so after ", mcptest.WaitTimeout, ": ", what)
		}
		<-time.After(time.Millisecond)
	}
}

// sayBack answers with what it was sent.
func sayBack(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %s %s %q", r.Method, r.RequestURI, r.Host, body)
}

func call(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// TestPipelining sends thirty requests at once, in pieces of every size: they are answered in order.
func TestPipelining(t *testing.T) {
	s := newServer(t, sayBack)
	var all strings.Builder
	for i := range 30 {
		all.WriteString(call(fmt.Sprint("/mcp/", i), strings.Repeat("x", i*i)))
	}
	for _, piece := range []int{1, 7, 100, 1000, all.Len()} {
		nc := dialServer(t, s.addr)
		_ = nc.(*net.TCPConn).SetNoDelay(true)
		go func() {
			for raw := all.String(); raw != ""; raw = raw[min(piece, len(raw)):] {
				_, _ = io.WriteString(nc, raw[:min(piece, len(raw))]) // the answers say what was received
			}
		}()
		br := bufio.NewReader(nc)
		for i := range 30 {
			if g, want := receive(t, br), fmt.Sprintf("POST /mcp/%d localhost %q", i, strings.Repeat("x", i*i)); g.status != 200 || g.body != want {
				t.Fatalf("pieces of %d: answer %d is %+v, want %s", piece, i, g, want)
			}
		}
	}
	if why := s.reasons(); len(why) > 0 {
		t.Errorf("replayed: %v", why)
	}
}

// TestPipelinedReplay: a pipelined request that is not plain waits for the answers before it, and those behind it are net/http's.
func TestPipelinedReplay(t *testing.T) {
	s := newServer(t, sayBack)
	nc := dialServer(t, s.addr)
	send(t, nc, call("/a", "1")+"POST /b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"+call("/c", "3"))
	br := bufio.NewReader(nc)
	for i, path := range []string{"/a", "/b", "/c"} {
		if g, want := receive(t, br), fmt.Sprintf("POST %s localhost %q", path, fmt.Sprint(i+1)); g.body != want {
			t.Errorf("got %+v, want %s", g, want)
		}
	}
	if why := s.reasons(); !slices.Equal(why, []http1.Replay{http1.ReplayCoding}) {
		t.Errorf("replayed: %v", why)
	}
}

// TestResetAtEachByte: an agent that resets its connection anywhere in its request leaves nothing behind.
func TestResetAtEachByte(t *testing.T) {
	s := newServer(t, sayBack)
	raw := call("/mcp", "some body") + call("/mcp", "another one")
	for i := range len(raw) + 1 {
		nc := dialServer(t, s.addr)
		send(t, nc, raw[:i])
		_ = nc.(*net.TCPConn).SetLinger(0)
		_ = nc.Close()
	}
	until(t, "no connection is left", func() bool { return s.Open() == 0 })
	nc := dialServer(t, s.addr)
	send(t, nc, call("/mcp", "still here"))
	if g := receive(t, bufio.NewReader(nc)); !strings.Contains(g.body, "still here") {
		t.Errorf("got %+v", g)
	}
}

// TestPanics: one ends its own call, and its connection; ErrAbortHandler does so without a word, and nothing passes for a whole answer.
func TestPanics(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panics":
			_, _ = io.WriteString(w, "some")
			panic("at the disco")
		case "/aborts":
			_, _ = io.WriteString(w, "some")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		sayBack(w, r)
	})
	other := dialServer(t, s.addr)
	send(t, other, call("/mcp", "first"))
	received := bufio.NewReader(other)
	receive(t, received)
	for path, what := range map[string]string{"/panics": "at the disco", "/aborts": ""} {
		nc := dialServer(t, s.addr)
		send(t, nc, call(path, ""))
		if g, err := tryReceive(bufio.NewReader(nc)); err == nil {
			t.Errorf("%s: got %+v", path, g)
		}
		if log := s.logged(); !strings.Contains(log, what) || strings.Contains(log, "abort") {
			t.Errorf("%s: the log is %s", path, log)
		}
	}
	send(t, other, call("/mcp", "second"))
	if g := receive(t, received); !strings.Contains(g.body, "second") {
		t.Errorf("got %+v", g)
	}
}

// waiting is a handler that says when it has begun, and ends with its request's context.
func waiting(began, ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		began <- nil
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
		_, _ = io.WriteString(w, "late")
	}
}

// TestLeaving: an agent that leaves ends its call at once, however it leaves, also with bytes of a next request unread, and after
// earlier calls on the same connection.
func TestLeaving(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close": func(nc *net.TCPConn) { _ = nc.Close() },
		"reset": func(nc *net.TCPConn) { _ = nc.SetLinger(0); _ = nc.Close() },
		"half":  func(nc *net.TCPConn) { _ = nc.CloseWrite() },
		"behind bytes": func(nc *net.TCPConn) {
			_, _ = io.WriteString(nc, "POST /next HT")
			_ = nc.CloseWrite()
		},
	} {
		t.Run(name, func(t *testing.T) {
			began, ended := make(chan error, 1), make(chan error, 1)
			wait := waiting(began, ended)
			s := newServer(t, waitsOrSaysBack(wait))
			nc := dialServer(t, s.addr)
			br := bufio.NewReader(nc)
			for range 3 {
				send(t, nc, call("/mcp", "x"))
				receive(t, br)
			}
			send(t, nc, call("/wait", "x"))
			<-began
			leave(nc.(*net.TCPConn))
			left := time.Now()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			t.Logf("seen after %v", time.Since(left))
			if name == "half" {
				if g := receive(t, br); g.body != "late" {
					t.Errorf("an answer that is there is to be written all the same, got %+v", g)
				}
			}
			until(t, "no connection is left", func() bool { return s.Open() == 0 })
			if len(s.reasons()) > 0 {
				t.Errorf("replayed: %v", s.reasons())
			}
		})
	}
}

// TestLeavingBefore: an end that comes with the last bytes of a request is seen too, however far the request is read by then; what is
// made at once is still answered.
func TestLeavingBefore(t *testing.T) {
	for _, large := range []int{1, 100_000} {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(err)
			}
			<-r.Context().Done()
			fmt.Fprint(w, len(body))
		})
		nc := dialServer(t, s.addr)
		send(t, nc, call("/mcp", strings.Repeat("x", large)))
		_ = nc.(*net.TCPConn).CloseWrite()
		if g := receive(t, bufio.NewReader(nc)); g.body != fmt.Sprint(large) {
			t.Errorf("got %+v", g)
		}
	}
}

// TestLeavingInTheBody: reading finds out.
func TestLeavingInTheBody(t *testing.T) {
	read := make(chan error, 1)
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})
	nc := dialServer(t, s.addr)
	send(t, nc, "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	_ = nc.Close()
	if err := <-read; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestBaseEnds: the end of Base ends all requests, with its cause, in contexts that were made from theirs as well.
func TestBaseEnds(t *testing.T) {
	cause := errors.New("the deadline of the drain")
	base, abandon := context.WithCancelCause(context.Background())
	began, ended := make(chan bool, 4), make(chan error, 4)
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		after := make(chan struct{})
		stop := context.AfterFunc(r.Context(), func() { close(after) })
		if r.URL.Path != "/late" {
			never := context.AfterFunc(r.Context(), func() { t.Error("it was stopped") })
			if !never() || never() {
				t.Error("stop says the wrong thing")
			}
		}
		began <- true
		<-ctx.Done()
		<-after
		if stop() {
			t.Error("stop says that it has not run")
		}
		ended <- context.Cause(ctx)
	}, func(o *http1.ServerOptions) { o.Base = base })
	for range 2 {
		send(t, dialServer(t, s.addr), call("/mcp", ""))
		<-began
	}
	abandon(cause)
	send(t, dialServer(t, s.addr), call("/late", "")) // one that begins after it
	for range 3 {
		if err := <-ended; err != cause {
			t.Errorf("got %v", err)
		}
	}
}

// TestContextEndsWithTheRequest: what a handler leaves behind ends with it.
func TestContextEndsWithTheRequest(t *testing.T) {
	contexts := make(chan context.Context, 1)
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if http1.ConnOf(r.Context()) == nil || r.Context().Value(http.LocalAddrContextKey) == nil {
			t.Error("the context has no connection")
		}
		contexts <- r.Context()
	})
	nc := dialServer(t, s.addr)
	send(t, nc, call("/mcp", ""))
	ctx := <-contexts
	<-ctx.Done()
	if _, bounded := ctx.Deadline(); bounded || ctx.Err() != context.Canceled || http1.ConnOf(context.Background()) != nil {
		t.Error(ctx.Err())
	}
	receive(t, bufio.NewReader(nc))
}

// TestSlowHeads: a head that does not come whole in time closes the connection, at once where it is net/http's; one that comes slowly
// does not hold others up, and has no buffer of its own.
func TestSlowHeads(t *testing.T) {
	for _, head := range []string{"P", "POST /mcp HTTP/1.1\r\nHost:", "OPTIONS /", "POST /%61 HTTP/1.1\r\n"} {
		s := newServer(t, sayBack, func(o *http1.ServerOptions) { o.HeadTimeout = 300 * time.Millisecond })
		nc, quiet := dialServer(t, s.addr), dialServer(t, s.addr)
		begun := time.Now()
		for i := range len(head) {
			send(t, nc, head[i:i+1])
		}
		if b, err := io.ReadAll(nc); err != nil || strings.Contains(string(b), "200") {
			t.Errorf("%q: got %q, %v", head, b, err)
		}
		if took := time.Since(begun); took < 250*time.Millisecond {
			t.Errorf("%q: closed after %v", head, took)
		}
		send(t, quiet, call("/mcp", "x")) // one of which nothing had come
		receive(t, bufio.NewReader(quiet))
	}
}

// TestSlowBody: a body that does not come in time is a deadline to the handler, whose answer gets through.
func TestSlowBody(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	}, func(o *http1.ServerOptions) { o.BodyTimeout = 50 * time.Millisecond })
	nc := dialServer(t, s.addr)
	send(t, nc, "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
	if b, err := io.ReadAll(nc); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 408 ") {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestIdleTimeout: a connection on which nothing comes is closed, a new one and one that was used, which before had nearer deadlines.
func TestIdleTimeout(t *testing.T) {
	s := newServer(t, sayBack, func(o *http1.ServerOptions) { o.IdleTimeout = 200 * time.Millisecond })
	for _, use := range []bool{false, true} {
		nc := dialServer(t, s.addr)
		br := bufio.NewReader(nc)
		if use {
			for _, piece := range []string{"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-", "Length: 2\r\n\r\na", "b"} {
				send(t, nc, piece)
				<-time.After(10 * time.Millisecond) // for it to be read by itself; the test is right all the same
			}
			receive(t, br)
		}
		begun := time.Now()
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("used %v: got %v", use, err)
		}
		if took := time.Since(begun); took < 150*time.Millisecond {
			t.Errorf("used %v: closed after %v", use, took)
		}
	}
}

// TestIdleHoldsNothing: no buffer, and few workers.
func TestIdleHoldsNothing(t *testing.T) {
	s := newServer(t, sayBack)
	var all []net.Conn
	for range 100 {
		all = append(all, dialServer(t, s.addr))
	}
	for _, nc := range all {
		send(t, nc, call("/mcp", "x"))
	}
	for _, nc := range all {
		receive(t, bufio.NewReader(nc))
	}
	until(t, "all are idle", func() bool {
		idle, _, _ := s.Phases()
		return idle == len(all)
	})
	if n := s.Workers(); n > 64 {
		t.Errorf("%d workers", n)
	}
	until(t, "workers that nobody needs end", func() bool { return s.Workers() == 0 })
	if _ = s.Close(); s.Buffered() {
		t.Error("a connection holds a buffer")
	}
}

// TestHeadBounds: what is too large is refused here, and nobody else is asked.
func TestHeadBounds(t *testing.T) {
	s := newServer(t, sayBack)
	for name, raw := range map[string]string{
		"a long line":   "POST /mcp HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 65<<10),
		"a long target": "GET /" + strings.Repeat("x", 65<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n",
		"many fields":   "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 200) + "\r\n",
		"endless":       "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: bbbbbbbbbbbbbbb\r\n", 10_000),
		"pipelined":     call("/mcp", "x") + "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 200) + "\r\n",
	} {
		nc := dialServer(t, s.addr)
		go func() { _, _ = io.WriteString(nc, raw) }() // it may not be read whole
		br := bufio.NewReader(nc)
		if name == "pipelined" {
			receive(t, br)
		}
		if g, err := tryReceive(br); err != nil || g.status != 431 || !g.closes || g.length <= 0 {
			t.Errorf("%s: got %+v, %v", name, g, err)
		}
	}
	for _, raw := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", 199) + "\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 60<<10) + "\r\n\r\n",
	} {
		nc := dialServer(t, s.addr)
		send(t, nc, raw)
		if g := receive(t, bufio.NewReader(nc)); g.status != 200 {
			t.Errorf("got %+v", g)
		}
	}
	if why := s.reasons(); len(why) > 0 {
		t.Errorf("replayed: %v", why)
	}
}

// waitsOrSaysBack has wait answer /wait, and sayBack all else.
func waitsOrSaysBack(wait http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			wait(w, r)
			return
		}
		sayBack(w, r)
	}
}

// TestServerMaxConnections: the one that has been idle for longest makes room, and where none is idle a new one waits.
func TestServerMaxConnections(t *testing.T) {
	for _, compat := range []bool{false, true} {
		began, ended := make(chan error, 4), make(chan error, 4)
		wait := waiting(began, ended)
		s := newServer(t, waitsOrSaysBack(wait), func(o *http1.ServerOptions) { o.MaxConnections, o.Compat = 3, compat })
		use := func(nc net.Conn) {
			send(t, nc, call("/mcp", ""))
			receive(t, bufio.NewReader(nc))
		}
		idle := func(want int) {
			until(t, "so many are idle", func() bool { n, _, _ := s.Phases(); return n == want })
		}
		first, second, third := dialServer(t, s.addr), dialServer(t, s.addr), dialServer(t, s.addr)
		for _, nc := range []net.Conn{first, second, third} {
			use(nc)
		}
		idle(3)
		use(first)
		idle(3)
		fourth := dialServer(t, s.addr) // second goes
		use(fourth)
		if _, err := second.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the one that was idle for longest: %v", err)
		}
		use(first)
		for _, nc := range []net.Conn{first, third, fourth} {
			send(t, nc, call("/wait", ""))
			<-began
		}
		fifth := dialServer(t, s.addr)
		send(t, fifth, call("/mcp", "fifth"))
		if s.Open() > 3 {
			t.Errorf("%d connections", s.Open())
		}
		_ = third.Close()
		if g := receive(t, bufio.NewReader(fifth)); !strings.Contains(g.body, "fifth") {
			t.Errorf("got %+v", g)
		}
		idle(1)
		use(dialServer(t, s.addr)) // fifth has become idle, and goes
		sixth := dialServer(t, s.addr)
		send(t, sixth, call("/wait", ""))
		<-began
		seventh := dialServer(t, s.addr)
		send(t, seventh, call("/mcp", "seventh"))
		s.Unbind()
		if g := receive(t, bufio.NewReader(seventh)); !strings.Contains(g.body, "seventh") {
			t.Errorf("got %+v", g)
		}
	}
}

// TestCloseIdle: what is closed is what nothing has come on, and for long enough, whoever serves it.
func TestCloseIdle(t *testing.T) {
	for _, compat := range []bool{false, true} {
		for name, tt := range map[string]struct {
			sent  string // a call to /mcp is answered
			then  string
			after time.Duration
			open  int
		}{
			"new":               {"", "", 0, 1},
			"unused":            {"", "", http1.IdleGrace, 0},
			"a byte has come":   {"", "P", http1.IdleGrace, 1},
			"no more has come":  {"", "P", http1.ReadingGrace, 0},
			"a handler runs":    {call("/wait", ""), "", time.Hour, 1},
			"just answered":     {call("/mcp", ""), "", 0, 1},
			"answered long ago": {call("/mcp", ""), "", http1.IdleGrace, 0},

			"answered, and the next comes": {call("/mcp", ""), "POST", http1.IdleGrace, 1},
		} {
			t.Run(fmt.Sprint(name, compat), func(t *testing.T) {
				began, ended := make(chan error, 1), make(chan error, 1)
				wait := waiting(began, ended)
				s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/wait" {
						wait(w, r)
						return
					}
					sayBack(w, r)
				}, func(o *http1.ServerOptions) { o.Compat = compat })
				nc := dialServer(t, s.addr)
				send(t, nc, tt.sent)
				if strings.Contains(tt.sent, "/wait") {
					<-began
				}
				if strings.Contains(tt.sent, "/mcp") {
					receive(t, bufio.NewReader(nc))
				}
				send(t, nc, tt.then)
				until(t, "it is so far", func() bool {
					idle, reading, serving := s.Phases()
					return idle+reading+serving == 1 && (reading == 1) == (tt.then != "") && (serving == 1) == strings.Contains(tt.sent, "/wait")
				})
				if s.CloseIdleAfter(tt.after/2 - min(tt.after, http1.IdleGrace/2)); s.Open() != 1 {
					t.Errorf("closed before its time")
				}
				if s.CloseIdleAfter(tt.after); s.Open() != tt.open {
					t.Errorf("%d open, want %d", s.Open(), tt.open)
				}
			})
		}
	}
}

// TestCloseIdleLosesNothing: while the server closes what is idle, whatever was begun to be read is answered.
func TestCloseIdleLosesNothing(t *testing.T) {
	s := newServer(t, sayBack)
	stop := make(chan struct{})
	var closing sync.WaitGroup
	closing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.CloseIdleAfter(http1.IdleGrace)
			}
		}
	})
	answered := 0
	for range 300 {
		nc := dialServer(t, s.addr)
		if _, err := io.WriteString(nc, call("/mcp", "x")); err != nil {
			continue
		}
		switch g, err := tryReceive(bufio.NewReader(nc)); {
		case err == nil && g.status == 200:
			answered++
		case err == nil:
			t.Errorf("got %+v", g)
		}
	}
	close(stop)
	closing.Wait()
	t.Logf("%d answered", answered)
}

// TestUnixSocket: agents are seen to leave over one as well.
func TestUnixSocket(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan error, 1), make(chan error, 1)
	s := newServerOn(t, ln, waiting(began, ended))
	nc := dialServer(t, s.addr)
	send(t, nc, call("/mcp", "x"))
	<-began
	_ = nc.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(s.reasons()) > 0 {
		t.Errorf("replayed: %v", s.reasons())
	}
}

// TestServerEnds: Close ends all connections and what waits for room, and what comes after it is not served.
func TestServerEnds(t *testing.T) {
	began, ended := make(chan error, 2), make(chan error, 2)
	s := newServer(t, waiting(began, ended), func(o *http1.ServerOptions) { o.MaxConnections = 1 })
	one := dialServer(t, s.addr)
	send(t, one, call("/mcp", ""))
	<-began
	two := dialServer(t, s.addr)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, nc := range []net.Conn{one, two, dialServer(t, s.addr)} {
		if b, err := io.ReadAll(nc); err == nil && len(b) > 0 {
			t.Errorf("got %q", b)
		}
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := http1.NewServer(http1.ServerOptions{HTTP: http.HandlerFunc(sayBack)}).Close(); err != nil {
		t.Error(err)
	}
}

// TestLateEvent: what the kernel says of a connection that was closed reaches no other.
func TestLateEvent(t *testing.T) {
	if http1.LateEvent() {
		t.Error("an event of a connection that was closed is taken for another one's")
	}
}
