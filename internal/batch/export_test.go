package batch

// Pending returns how many calls can be cancelled here.
func (g *Flights) Pending() int {
	g.pending.mu.Lock()
	defer g.pending.mu.Unlock()
	return len(g.pending.by)
}
