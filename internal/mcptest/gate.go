package mcptest

import "sync"

// Gate holds scripts back until a test opens it. It is opened once for all.
type Gate struct {
	once sync.Once
	open chan struct{}
}

// NewGate returns a shut gate.
func NewGate() *Gate { return &Gate{open: make(chan struct{})} }

// Open lets everyone through, now and later.
func (g *Gate) Open() { g.once.Do(func() { close(g.open) }) }

// Opened is closed when the gate is open.
func (g *Gate) Opened() <-chan struct{} { return g.open }

// Barrier holds its comers back until so many have come, then lets all through.
type Barrier struct {
	mu   sync.Mutex
	left int
	gate *Gate
}

// NewBarrier returns a barrier for n comers.
func NewBarrier(n int) *Barrier { return &Barrier{left: n, gate: NewGate()} }

// Arrive counts one comer; what it returns is closed when all have come.
func (b *Barrier) Arrive() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left--
	if b.left <= 0 {
		b.gate.Open()
	}
	return b.gate.Opened()
}
