package proxy

// Streams returns how many GET and listen streams of agents are open.
func (h *Handler) Streams() int {
	h.inFlight.mu.Lock()
	defer h.inFlight.mu.Unlock()
	return len(h.inFlight.streams)
}
