package harness

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a TCP connection between the daemon and a tier that a test can break: whatever connects to its address gets to
// the target as the present condition says, and a change of it holds for the connections that are open as well.
type Link struct {
	t    testing.TB
	Addr string // where the daemon connects to

	mu       sync.Mutex
	target   string // of new connections
	now      condition
	changed  chan struct{} // closed and replaced at every change of now
	listener net.Listener  // nil while cut
	wires    map[*wire]struct{}
	taken    int // connections since the start

	running sync.WaitGroup
}

// condition is how a link behaves. The zero condition lets everything pass at once.
type condition struct {
	frozen  bool          // connections are taken, and nothing passes: a network that loses every packet
	delay   time.Duration // that each piece of data waits, in either direction
	rubbish []byte        // what the target's answers are replaced by, piece by piece; nil: nothing
}

// StartLink makes a link to an address. It ends with the test.
func StartLink(t testing.TB, target string) *Link {
	t.Helper()
	l := &Link{t: t, target: target, changed: make(chan struct{}), wires: map[*wire]struct{}{}}
	l.Addr = "127.0.0.1:" + FreePort(t)
	l.listen()
	t.Cleanup(func() {
		l.Cut()
		l.running.Wait()
	})
	return l
}

// Cut breaks all connections (RST), and refuses new ones until restore.
func (l *Link) Cut() {
	l.mu.Lock()
	listener := l.listener
	l.listener = nil
	wires := l.wires
	l.wires = map[*wire]struct{}{}
	l.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	for w := range wires {
		w.end()
	}
}

// Freeze has nothing pass until restore: nobody gets an answer or an error.
func (l *Link) Freeze() { l.set(condition{frozen: true}) }

// Move has new connections get to another target. Those that are open stay where they are.
func (l *Link) Move(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
}

// Slow has every piece of data wait, in either direction.
func (l *Link) Slow(delay time.Duration) { l.set(condition{delay: delay}) }

// Garble answers whatever is asked with these bytes in place of the target's.
func (l *Link) Garble(rubbish string) { l.set(condition{rubbish: []byte(rubbish)}) }

// Restore makes the link whole again. What a frozen connection held back is delivered.
func (l *Link) Restore() {
	l.set(condition{})
	l.mu.Lock()
	down := l.listener == nil
	l.mu.Unlock()
	if down {
		l.listen()
	}
}

// connections says how many are open, and how many there were since the start.
func (l *Link) connections() (open, taken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wires), l.taken
}

func (l *Link) set(c condition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = c
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) condition() (condition, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.changed
}

func (l *Link) listen() {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.Addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	l.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.connect(listener, conn)
		}
	})
}

// connect begins a wire, unless the listener it came by has been closed meanwhile.
func (l *Link) connect(listener net.Listener, conn net.Conn) {
	ctx, cancel := context.WithCancel(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &wire{link: l, target: l.target, near: conn, ctx: ctx, cancel: cancel}
	if l.listener != listener {
		w.end()
		return
	}
	l.wires[w] = struct{}{}
	l.taken++
	l.running.Go(w.run)
}

// wire is one connection through a link.
type wire struct {
	link   *Link
	target string
	near   net.Conn // the daemon's side
	ctx    context.Context
	cancel context.CancelFunc

	mu  sync.Mutex
	far net.Conn // the target's side; nil until it is there
}

// end breaks the wire on both sides.
func (w *wire) end() {
	w.cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	hangUp(w.near)
	if w.far != nil {
		hangUp(w.far)
	}
}

// hangUp closes a connection by RST.
func hangUp(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (w *wire) run() {
	defer func() {
		w.end()
		w.link.mu.Lock()
		delete(w.link.wires, w)
		w.link.mu.Unlock()
	}()
	far, err := new(net.Dialer).DialContext(w.ctx, "tcp", w.target)
	if err != nil {
		return
	}
	w.mu.Lock()
	w.far = far
	w.mu.Unlock()
	if w.ctx.Err() != nil { // end may have come before the far side was known
		return
	}
	var asking sync.WaitGroup
	asking.Go(func() { w.carry(far, w.near, false) })
	w.carry(w.near, far, true)
	asking.Wait()
}

// carry passes on what one side says, and that it has ended.
func (w *wire) carry(to, from net.Conn, answers bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		piece, open := w.pass(buffer[:n], answers)
		if !open {
			return
		}
		if _, failed := to.Write(piece); failed != nil {
			w.end()
			return
		}
		switch {
		case err == io.EOF:
			_ = to.(*net.TCPConn).CloseWrite()
			return
		case err != nil:
			w.end()
			return
		}
	}
}

// pass waits until a piece of data may go on and returns what goes on in its place, or false when the wire has ended.
func (w *wire) pass(piece []byte, answers bool) ([]byte, bool) {
	for {
		now, changed := w.link.condition()
		var enough <-chan time.Time
		switch {
		case now.frozen:
		case now.delay > 0:
			enough = time.After(now.delay)
		case now.rubbish != nil && answers && len(piece) > 0:
			return now.rubbish, true
		default:
			return piece, true
		}
		select {
		case <-enough:
			return piece, true
		case <-changed:
		case <-w.ctx.Done():
			return nil, false
		}
	}
}
